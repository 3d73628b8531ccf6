//! Progress of long transfers, shown when standard error is a terminal.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// What `make` makes, where somebody sees it.
pub fn shown(make: impl FnOnce() -> ProgressBar) -> Option<ProgressBar> {
    std::io::stderr().is_terminal().then(make)
}

/// A line that says what is going on, for what has no end that is known; `None` where nobody sees it.
pub fn spinner() -> Option<ProgressBar> {
    let bar = std::io::stderr().is_terminal().then(ProgressBar::new_spinner)?;
    bar.enable_steady_tick(Duration::from_millis(200));
    Some(bar)
}

/// Counts files and bytes, and shows them.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Progress {
    /// Starts; `total_bytes` is what the bar counts to.
    pub fn start(total_bytes: u64, quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(total_bytes);
            if let Ok(style) =
                ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} eta {eta} {msg}")
            {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, files: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    /// More bytes are to come than was known.
    pub fn expect_bytes(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc_length(bytes);
        }
    }

    /// More bytes are through.
    pub fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }

    /// One more file is through.
    pub fn add_file(&self) {
        let files = self.files.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{files} files"));
        }
    }

    /// Ends the display; answers files and bytes.
    pub fn finish(&self) -> (u64, u64) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        (self.files.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}
