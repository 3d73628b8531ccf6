//! Where things are: the repository, the target directory, cargo itself.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cxx;

/// The directories every command works in.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// The repository's top directory.
    pub root: PathBuf,
    /// Cargo's target directory, absolute.
    pub target: PathBuf,
}

impl Workspace {
    /// Finds the repository this xtask was built from, and its target directory.
    ///
    /// # Errors
    /// When the repository has moved since the build and the current directory is not in it.
    pub fn find() -> Result<Self, String> {
        let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        let current = env::current_dir().map_err(|error| format!("current directory: {error}"))?;
        let root = current
            .ancestors()
            .chain(built_from)
            .find(|directory| directory.join("xtask/Cargo.toml").is_file())
            .ok_or("run this inside the CairnFS repository")?
            .to_path_buf();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(directory) if !directory.is_empty() => current.join(directory),
            _ => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// The cargo that started us, in the repository's top directory.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        if let Ok(path) = cxx::path(&self.target) {
            command.env("PATH", path);
        }
        // What cargo told us of ourselves is not for the build: a build script that looks at it
        // (ring's does) would run again, and all above it be compiled again, whenever cargo is
        // called by hand in between, or from another clone.
        for (name, _) in env::vars_os() {
            let own = name
                .to_str()
                .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
            if own {
                command.env_remove(name);
            }
        }
        command
    }

    /// The file that pins the Python tools.
    pub fn requirements(&self) -> PathBuf {
        self.root.join("tests/py/requirements.txt")
    }

    /// Where a release binary of the workspace lies after a build.
    pub fn release_binary(&self, name: &str) -> PathBuf {
        self.target.join("release").join(name)
    }
}
