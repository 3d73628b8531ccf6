//! How much memory a process takes, as Linux counts it (proc(5)).

/// The resident memory of some processes, from a moment on.
pub struct Growth<const N: usize> {
    processes: [Option<u32>; N],
    before: Option<[f64; N]>,
}

impl<const N: usize> Growth<N> {
    /// From now on.
    pub fn of(processes: [Option<u32>; N]) -> Self {
        for process in processes.iter().flatten() {
            // Without it the peak is that of the whole life, and nothing is said below.
            let _ = std::fs::write(format!("/proc/{process}/clear_refs"), "5");
        }
        Self { processes, before: read(processes, "VmRSS:") }
    }

    /// By how many MiB each one's peak since lies above what it had; `None` where that is not known.
    pub fn mebibytes(&self) -> Option<[f64; N]> {
        let (before, peak) = (self.before?, read(self.processes, "VmHWM:")?);
        Some(std::array::from_fn(|n| (peak[n] - before[n]).max(0.0) / 1024.0))
    }
}

/// A line of each process's status, in KiB.
fn read<const N: usize>(processes: [Option<u32>; N], name: &str) -> Option<[f64; N]> {
    let mut found = [0.0; N];
    for (kib, process) in found.iter_mut().zip(processes) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        *kib = line.split_whitespace().next()?.parse().ok()?;
    }
    Some(found)
}
