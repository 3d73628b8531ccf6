//! [`Janitor`]: removes files when this process has ended, however it ended.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Reads what is to be removed until its input ends, then removes it. A server that is being killed at
/// that moment may still add a file to a directory: then it tries again.
const SCRIPT: &str = "set -f
IFS='
'
listed=$(cat)
for _ in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf -- $listed && exit
    sleep 0.1
done
";

/// A shell that waits for our end and then removes what it was told.
///
/// What lies in a `static` is never dropped, and a process that is killed runs nothing more; but the
/// kernel closes its files in any case, and the end of a pipe is what this waits for. Nobody else
/// holds that pipe: what std opens is closed on exec.
#[derive(Debug)]
pub(super) struct Janitor {
    child: Child,
}

impl Janitor {
    /// Starts it, in a process group of its own: what is sent to ours must not end it before us.
    pub(super) fn start() -> io::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT]).current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { child: command.spawn()? })
    }

    /// From now on this file or directory will be removed, with all that is in it.
    pub(super) fn will_remove(&mut self, path: &Path) -> io::Result<()> {
        let pipe = self.child.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(pipe, "{}", path.display())
    }
}
