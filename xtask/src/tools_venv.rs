//! The Python environment with the test tools: `<target>/tools/venv-<hash of the requirements>`.
//!
//! `<target>/tools/current` is a link to the one in use; tests that are run without xtask look
//! there. An environment counts only once its marker file is written, so that a broken-off
//! installation is made again.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step;
use crate::workspace::Workspace;

const MARKER: &str = ".complete";

/// Where the test tools are.
#[derive(Debug, Clone)]
pub struct Tools {
    directory: PathBuf,
}

impl Tools {
    /// The environment's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Tells a command where the tools are; what the caller's environment says wins.
    pub fn tell(&self, command: &mut Command) {
        for (variable, program) in
            [("CAIRN_WEED", "weed"), ("CAIRN_MOTO_SERVER", "moto_server"), ("CAIRN_PYTHON", "python3")]
        {
            if std::env::var_os(variable).is_none() {
                command.env(variable, self.directory.join("bin").join(program));
            }
        }
    }

    fn is_complete(&self) -> bool {
        let program_exists = |name| self.directory.join("bin").join(name).exists();
        self.directory.join(MARKER).exists()
            && ["weed", "moto_server", "python3"].into_iter().all(program_exists)
    }
}

/// Makes the environment if it is not there yet.
///
/// # Errors
/// What failed: reading the requirements, making the environment, or pip.
pub fn prepare(workspace: &Workspace, python: &Path) -> Result<Tools, String> {
    let requirements = workspace.requirements();
    let pinned =
        fs::read(&requirements).map_err(|error| format!("read {}: {error}", requirements.display()))?;
    let parent = workspace.target.join("tools");
    fs::create_dir_all(&parent).map_err(|error| format!("make {}: {error}", parent.display()))?;
    let _lock = lock(&parent.join(".lock")).map_err(|error| format!("lock {}: {error}", parent.display()))?;

    let name = format!("venv-{:016x}", fnv1a(&pinned));
    let tools = Tools { directory: parent.join(&name) };
    if !tools.is_complete() {
        eprintln!("installing the test tools into {}", tools.directory.display());
        install(&tools.directory, python, &requirements)?;
    }
    point_to(&parent, &name).map_err(|error| format!("link {name} as current: {error}"))?;
    Ok(tools)
}

fn install(directory: &Path, python: &Path, requirements: &Path) -> Result<(), String> {
    if directory.exists() {
        fs::remove_dir_all(directory).map_err(|error| format!("remove {}: {error}", directory.display()))?;
    }
    step::run(Command::new(python).args(["-m", "venv"]).arg(directory))?;
    // Wheels only: nothing is built and no code of a package runs at installation.
    step::run(
        Command::new(directory.join("bin/python3"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["--require-hashes", "--only-binary", ":all:", "--requirement"])
            .arg(requirements),
    )?;
    step::run(Command::new(directory.join("bin/weed")).arg("version"))?;
    fs::write(directory.join(MARKER), "").map_err(|error| format!("write {MARKER}: {error}"))
}

/// Moves the link `current` to the environment of this name, in one step.
fn point_to(parent: &Path, name: &str) -> io::Result<()> {
    let link = parent.join("current");
    if fs::read_link(&link).is_ok_and(|target| target == Path::new(name)) {
        return Ok(());
    }
    let fresh = parent.join(".current");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => symlink(name, &fresh)?,
    }
    fs::rename(&fresh, &link)
}

/// Keeps a second xtask out until the file is dropped.
fn lock(path: &Path) -> io::Result<File> {
    let file = File::create(path)?;
    file.lock()?;
    Ok(file)
}

/// FNV-1a, 64 bits: names the environment after its requirements; no protection against malice,
/// pip's hashes are.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_fnv1a() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn current_is_moved_to_the_newest() {
        let parent = std::env::temp_dir().join(format!("xtask-venv-{}", std::process::id()));
        fs::create_dir_all(&parent).unwrap();
        for name in ["venv-1", "venv-1", "venv-2"] {
            point_to(&parent, name).unwrap();
            let target = fs::read_link(parent.join("current")).unwrap();
            assert_eq!(target, Path::new(name));
        }
        fs::remove_dir_all(&parent).unwrap();
    }

    #[test]
    fn half_an_environment_does_not_count() {
        let directory = std::env::temp_dir().join(format!("xtask-half-{}", std::process::id()));
        fs::create_dir_all(directory.join("bin")).unwrap();
        let tools = Tools { directory: directory.clone() };
        for program in ["weed", "moto_server", "python3"] {
            assert!(!tools.is_complete());
            fs::write(directory.join("bin").join(program), "").unwrap();
        }
        assert!(!tools.is_complete());
        fs::write(directory.join(MARKER), "").unwrap();
        assert!(tools.is_complete());
        fs::remove_dir_all(&directory).unwrap();
    }
}
