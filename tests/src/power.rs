//! [`Volume`]: a disk of its own for servers, whose power can be cut.
//!
//! An ext4 image behind a loop device. [`Volume::cut`] shuts the filesystem down without writing its
//! journal (`EXT4_IOC_SHUTDOWN`): what no fsync has covered is gone, as after a loss of power, and
//! [`Volume::restore`] mounts what is left. An fsync that runs at that moment may still answer well:
//! count what was acknowledged before the call alone.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `_IOR('X', 125, __u32)`.
const EXT4_IOC_SHUTDOWN: rustix::ioctl::Opcode = 0x8004_587d;
/// Not even the journal is written.
const NO_LOG_FLUSH: u32 = 2;

/// Why there is no volume, or it failed.
#[derive(Debug, thiserror::Error)]
pub enum PowerError {
    /// Mounting takes root, `mkfs.ext4` and a loop device.
    #[error("this machine cannot cut the power of a volume: {reason}")]
    Unable {
        /// What lacks.
        reason: String,
    },
    /// A command failed.
    #[error("{command}: {reason}")]
    Command {
        /// Which.
        command: String,
        /// What it said.
        reason: String,
    },
    /// The kernel refused.
    #[error("{action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

/// A mounted filesystem, unmounted when this is dropped.
#[derive(Debug)]
pub struct Volume {
    image: PathBuf,
    mount: PathBuf,
    // Removed after the filesystem is unmounted.
    _temporary: tempfile::TempDir,
}

fn command(program: &str, arguments: &[&str]) -> Result<(), PowerError> {
    let failed = |reason: String| PowerError::Command {
        command: format!("{program} {}", arguments.join(" ")),
        reason,
    };
    let output = Command::new(program).args(arguments).output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

fn failed(action: &'static str) -> impl FnOnce(std::io::Error) -> PowerError {
    move |source| PowerError::Io { action, source }
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

impl Volume {
    /// Makes a volume of `mib` MiB and mounts it.
    ///
    /// # Errors
    /// [`PowerError::Unable`] where this machine cannot.
    pub fn new(mib: u64) -> Result<Self, PowerError> {
        let temporary = tempfile::Builder::new()
            .prefix("cairn-volume-")
            .tempdir()
            .map_err(failed("make a directory for a volume"))?;
        let (image, mount) = (temporary.path().join("image"), temporary.path().join("mount"));
        let file = File::create(&image).map_err(failed("make an image"))?;
        file.set_len(mib << 20).map_err(failed("make an image"))?;
        std::fs::create_dir(&mount).map_err(failed("make a directory for a volume"))?;
        let volume = Self { image, mount, _temporary: temporary };
        let made = command("mkfs.ext4", &["-q", "-F", shown(&volume.image)]).and_then(|()| volume.mount());
        made.map_err(|error| PowerError::Unable { reason: error.to_string() })?;
        Ok(volume)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mount
    }

    fn mount(&self) -> Result<(), PowerError> {
        command("mount", &["-o", "loop", shown(&self.image), shown(&self.mount)])
    }

    /// Makes all that is on it durable.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sync(&self) -> Result<(), PowerError> {
        let root = File::open(&self.mount).map_err(failed("open a volume"))?;
        rustix::fs::syncfs(&root).map_err(|error| failed("sync a volume")(error.into()))
    }

    /// Cuts the power: every call fails from now on, and what no fsync had covered is gone.
    ///
    /// # Errors
    /// The kernel's.
    pub fn cut(&self) -> Result<(), PowerError> {
        let root = File::open(&self.mount).map_err(failed("open a volume"))?;
        // SAFETY: the kernel reads a `__u32` for this opcode, and nothing else.
        let done = unsafe {
            rustix::ioctl::ioctl(&root, rustix::ioctl::Setter::<EXT4_IOC_SHUTDOWN, u32>::new(NO_LOG_FLUSH))
        };
        done.map_err(|error| failed("cut the power of a volume")(error.into()))
    }

    /// The power is back: what is on the disk is mounted again. Nobody may hold a file of it open.
    ///
    /// # Errors
    /// When it cannot be unmounted or mounted.
    pub fn restore(&self) -> Result<(), PowerError> {
        command("umount", &[shown(&self.mount)])?;
        self.mount()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // It may not be mounted. Lazily, since a test that fails may leave a file open.
        let _ = command("umount", &["-l", shown(&self.mount)]);
    }
}
