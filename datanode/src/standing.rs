//! [`Standings`]: how the disks of a process stand, for /readyz and /healthz, the metrics and the leader.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_proto::v1;
use tokio::sync::watch;

/// One disk, by its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Standing {
    dir: PathBuf,
    /// The metadata leader knows the node that it is.
    known: bool,
    /// It is not in use.
    refused: bool,
    /// Why it is not in use, or takes no more writes.
    trouble: Option<String>,
}

/// The disks that the process was told to use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Standings {
    disks: Arc<watch::Sender<Vec<Standing>>>,
}

impl Standings {
    /// Disks in these directories, none of them opened yet.
    #[must_use]
    pub fn new(dirs: &[PathBuf]) -> Self {
        let opening =
            |dir: &PathBuf| Standing { dir: dir.clone(), known: false, refused: false, trouble: None };
        Self { disks: Arc::new(watch::Sender::new(dirs.iter().map(opening).collect())) }
    }

    /// How many disks the process was told to use.
    #[must_use]
    pub fn count(&self) -> usize {
        self.disks.borrow().len()
    }

    fn change(&self, dir: &Path, change: impl FnOnce(&mut Standing)) {
        self.disks.send_if_modified(|disks| {
            let Some(disk) = disks.iter_mut().find(|disk| disk.dir == dir) else { return false };
            let before = disk.clone();
            change(disk);
            let usable = if disk.trouble.is_none() { 1.0 } else { 0.0 };
            metrics::gauge!("cairn_data_disk_usable", "dir" => dir.display().to_string()).set(usable);
            *disk != before
        });
    }

    /// The disk in `dir` is left out.
    pub fn refuse(&self, dir: &Path, reason: &str) {
        self.change(dir, |disk| {
            (disk.refused, disk.known, disk.trouble) = (true, false, Some(reason.to_owned()));
        });
    }

    /// The disk in `dir` serves: whether the leader knows it, and why it takes no more writes, if so.
    pub fn note(&self, dir: &Path, known: bool, failure: Option<String>) {
        self.change(dir, |disk| (disk.known, disk.trouble) = (known, failure));
    }

    /// True while the leader knows one disk at least.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.disks.borrow().iter().any(|disk| disk.known)
    }

    /// The disks that are left out, and why.
    #[must_use]
    pub fn refused(&self) -> Vec<v1::RefusedDisk> {
        let disks = self.disks.borrow();
        let refused = disks.iter().filter(|disk| disk.refused);
        let told = refused.map(|disk| v1::RefusedDisk {
            dir: disk.dir.display().to_string(),
            reason: disk.trouble.clone().unwrap_or_default(),
        });
        told.collect()
    }

    /// A line for each disk that is not as it should be.
    #[must_use]
    pub fn troubles(&self) -> String {
        let mut lines = String::new();
        for disk in self.disks.borrow().iter() {
            if let Some(trouble) = &disk.trouble {
                // A string takes all that is written to it.
                let _ = writeln!(lines, "disk {}: {trouble}", disk.dir.display());
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_disk_that_is_known_makes_a_process_ready_and_the_others_are_told() {
        let (a, b) = (PathBuf::from("/a"), PathBuf::from("/b"));
        let standings = Standings::new(&[a.clone(), b.clone()]);
        assert!(!standings.is_ready() && standings.troubles().is_empty());
        standings.refuse(&b, "it is damaged");
        assert!(!standings.is_ready());
        standings.note(&a, true, None);
        assert!(standings.is_ready());
        assert_eq!(standings.troubles(), "disk /b: it is damaged\n");
        let refused = standings.refused();
        assert_eq!((refused.len(), refused[0].dir.as_str()), (1, "/b"));
        // One that failed is still read from, and is no refused one.
        standings.note(&a, true, Some("an fsync failed".to_owned()));
        assert!(standings.is_ready() && standings.refused().len() == 1);
        assert_eq!(standings.troubles(), "disk /a: an fsync failed\ndisk /b: it is damaged\n");
        standings.note(&a, false, None);
        assert!(!standings.is_ready());
    }
}
