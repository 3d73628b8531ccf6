//! `cargo xtask demo`: set up, build, run `cairn-demo`.

use std::path::Path;
use std::process::Command;

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
    let mut tools = None;
    let ready = steps.run("setup", || {
        tools = Some(setup::run(workspace)?);
        Ok(())
    }) && steps
        .run("build", || step::run(workspace.cargo().args(["build", "--release", "--workspace"])));
    if let (true, Some(tools)) = (ready, tools) {
        steps.run("demo", || {
            let mut command = Command::new(workspace.release_binary(BINARY));
            tools.tell(&mut command);
            command.args(directory);
            step::run(&mut command)
        });
    }
    steps.finish()
}
