//! `cargo xtask demo`: set up, build, run `cairn-demo`.

use std::path::Path;
use std::process::Command;

use crate::freshness::Freshness;
use crate::setup;
use crate::step::{self, Steps};
use crate::workspace::Workspace;

/// The binary that is the demo (tests/src/bin/).
const BINARY: &str = "cairn-demo";

/// Runs the demo on `directory`, or on what the demo chooses.
///
/// # Errors
/// When set-up, build or the demo itself fails.
pub fn run(workspace: &Workspace, directory: Option<&Path>) -> Result<(), String> {
    let mut steps = Steps::new();
    let mut ready = None;
    steps.run("setup", || {
        ready = Some((setup::run(workspace)?, Freshness::new(workspace)?));
        Ok(())
    });
    if let Some((tools, freshness)) = ready
        && steps.run("build", || {
            let mut cargo = workspace.cargo();
            freshness.build(|| step::run(cargo.args(["build", "--release", "--workspace"])))
        })
    {
        steps.run("demo", || {
            let mut command = Command::new(workspace.release_binary(BINARY));
            tools.tell(&mut command);
            command.args(directory).env("CARGO_MANIFEST_DIR", workspace.root.join("tests"));
            step::run(&mut command)
        });
    }
    steps.finish()
}
