//! What a person reads while it runs.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

/// How often a running count is written anew.
const REFRESH: Duration = Duration::from_millis(100);

/// The first line of all.
pub fn title(text: &str) {
    println!("\n{text}\n{}", "=".repeat(text.len()));
}

/// The headline of an act.
pub fn act(text: &str) {
    println!("\n> {text}");
}

/// Something that happened.
pub fn note(text: impl AsRef<str>) {
    println!("  {}", text.as_ref());
}

/// Something that was checked and found right.
pub fn ok(text: impl AsRef<str>) {
    println!("  ok  {}", text.as_ref());
}

/// A number with its thousands apart.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes as 10⁶ bytes.
pub fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// A duration in the unit that suits it.
pub fn duration(value: Duration) -> String {
    let seconds = value.as_secs_f64();
    match seconds {
        s if s < 0.001 => format!("{:.0} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// A running count on a terminal; silent elsewhere.
pub struct Counter {
    count: Arc<AtomicU64>,
    task: Option<JoinHandle<()>>,
}

impl Counter {
    /// Starts to show `what` of `total`.
    pub fn start(what: &'static str, total: u64) -> Self {
        let count = Arc::new(AtomicU64::new(0));
        let task = std::io::stdout().is_terminal().then(|| {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let started = Instant::now();
                let mut ticks = tokio::time::interval(REFRESH);
                loop {
                    ticks.tick().await;
                    let now = count.load(Ordering::Relaxed);
                    let rate = now as f64 / started.elapsed().as_secs_f64().max(0.001);
                    let of = if total > 0 { format!(" of {}", number(total)) } else { String::new() };
                    print!("\r\x1b[K  ... {}{of} {what}, {rate:.0}/s", number(now));
                    // Only a picture for the eye: a failed flush loses nothing.
                    let _ = std::io::stdout().flush();
                }
            })
        });
        Self { count, task }
    }

    /// What tasks add to.
    pub fn handle(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.count)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            print!("\r\x1b[K");
        }
    }
}
