//! `cargo xtask setup`: what the build and the tests need beyond cargo, checked and installed.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cxx;
use crate::step;
use crate::tools_venv::{self, Tools};
use crate::workspace::Workspace;

/// One thing that comes from the system's packages.
struct Requirement {
    /// What it is, and what for.
    purpose: &'static str,
    /// The Debian package that has it.
    package: &'static str,
    /// Whether it is there.
    is_present: fn() -> bool,
}

const REQUIREMENTS: [Requirement; 4] = [
    Requirement {
        purpose: "libclang (makes RocksDB's bindings)",
        package: "libclang-dev",
        is_present: has_libclang,
    },
    Requirement {
        purpose: "python3 >= 3.11 with venv and pip (installs SeaweedFS and moto)",
        package: "python3-venv",
        is_present: has_python,
    },
    Requirement {
        purpose: "a C++ compiler (builds RocksDB)",
        package: "build-essential",
        is_present: has_cxx,
    },
    Requirement {
        purpose: "Clang (compiles RocksDB in half of g++'s time)",
        package: "clang",
        is_present: || runs("clang++", &["--version"]),
    },
];

/// Makes the machine ready and says where the tools are. Running it again changes nothing.
///
/// # Errors
/// What is missing, with the exact command that installs it; or what failed.
pub fn run(workspace: &Workspace) -> Result<Tools, String> {
    install_packages()?;
    cxx::lay(&workspace.target)?;
    let python = find_python().ok_or("python3 is still missing")?;
    let tools = tools_venv::prepare(workspace, &python)?;
    eprintln!("ready; test tools: {}", tools.directory().display());
    Ok(tools)
}

fn install_packages() -> Result<(), String> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    for requirement in &missing {
        eprintln!("missing: {}", requirement.purpose);
    }
    let packages: Vec<&str> = missing.iter().map(|r| r.package).collect();
    let line = format!("apt-get update && apt-get install -y --no-install-recommends {}", packages.join(" "));
    if !is_root() || !runs("apt-get", &["--version"]) {
        return Err(format!("install what is missing, then run this again:\n    sudo sh -c '{line}'"));
    }
    eprintln!("running: {line}");
    step::run(Command::new("sh").args(["-c", &line]).env("DEBIAN_FRONTEND", "noninteractive"))?;
    match self::missing().first() {
        None => Ok(()),
        Some(requirement) => {
            Err(format!("{} is still missing after installing {}", requirement.purpose, requirement.package))
        }
    }
}

fn missing() -> Vec<&'static Requirement> {
    REQUIREMENTS.iter().filter(|r| !(r.is_present)()).collect()
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn has_cxx() -> bool {
    match env::var("CXX") {
        Ok(compiler) if !compiler.is_empty() => runs(&compiler, &["--version"]),
        _ => ["c++", "g++", "clang++"].iter().any(|compiler| runs(compiler, &["--version"])),
    }
}

fn has_python() -> bool {
    find_python().is_some()
}

/// The first python3 that is new enough and can make virtual environments with pip in them.
fn find_python() -> Option<PathBuf> {
    let test = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))";
    ["python3", "/usr/bin/python3"].into_iter().find(|python| runs(python, &["-c", test])).map(PathBuf::from)
}

fn has_libclang() -> bool {
    let named = env::var_os("LIBCLANG_PATH").map(PathBuf::from);
    let usual = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
    let mut directories: Vec<PathBuf> = named.into_iter().chain(usual).collect();
    // Debian: /usr/lib/llvm-14/lib and /usr/lib/x86_64-linux-gnu.
    for entry in fs::read_dir("/usr/lib").into_iter().flatten().flatten() {
        directories.push(entry.path());
        directories.push(entry.path().join("lib"));
    }
    directories.iter().any(|directory| holds_libclang(directory))
}

/// Whether bindgen would find a shared libclang in this directory.
fn holds_libclang(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let named_so = name.starts_with("libclang.so") || name.starts_with("libclang-");
        // libclang-cpp is another library; a dangling link is none at all.
        named_so && name.contains(".so") && !name.starts_with("libclang-cpp") && entry.path().exists()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libclang_is_told_from_its_namesakes() {
        let directory = env::temp_dir().join(format!("xtask-libclang-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("libclang-cpp.so.14"), "").unwrap();
        fs::write(directory.join("libclang.a"), "").unwrap();
        assert!(!holds_libclang(&directory));
        fs::write(directory.join("libclang-14.so.1"), "").unwrap();
        assert!(holds_libclang(&directory));
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_program_that_does_not_exist_does_not_run() {
        assert!(runs("true", &[]));
        assert!(!runs("false", &[]));
        assert!(!runs("/nonexistent/program", &[]));
    }
}
