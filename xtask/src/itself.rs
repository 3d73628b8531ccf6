//! Makes sure that the xtask that runs was built from the clone it works in.
//!
//! Clones that share a target directory share the program `xtask` too. To cargo the sources in the
//! older clone are older than the program that was built in the other.

use std::env;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::SystemTime;

use crate::workspace::Workspace;

/// Set for the one that is built anew, so that there is no third.
const VARIABLE: &str = "CAIRN_XTASK_BUILT_AGAIN";

/// Goes on only in an xtask of this clone: builds it and becomes it, if this is another's.
///
/// # Errors
/// When it cannot be built.
pub fn be_of(workspace: &Workspace) -> Result<(), String> {
    let home = workspace.root.join("xtask");
    if is_same(Path::new(env!("CARGO_MANIFEST_DIR")), &home) {
        return Ok(());
    }
    if env::var_os(VARIABLE).is_some() {
        return Err(format!("this xtask was not built from {}, and cargo will not do it", home.display()));
    }
    let main = home.join("src/main.rs");
    let touched = std::fs::File::open(&main).and_then(|file| file.set_modified(SystemTime::now()));
    touched.map_err(|error| format!("{}: {error}", main.display()))?;
    let mut cargo = workspace.cargo();
    cargo.args(["run", "--quiet", "--release", "--package", "xtask", "--"]).args(env::args_os().skip(1));
    // Paths among the arguments are meant from where we were called.
    let current = env::current_dir().map_err(|error| format!("current directory: {error}"))?;
    Err(format!("cannot start cargo: {}", cargo.current_dir(current).env(VARIABLE, "1").exec()))
}

fn is_same(one: &Path, other: &Path) -> bool {
    one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}
