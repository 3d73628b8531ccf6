//! The `c++` that compiles RocksDB in less than half the time (`cxx/c++` says how), laid at
//! `<target>/tools/cxx` and put before the machine's own in the PATH of the builds.
//!
//! PATH is the one way to it that cargo does not watch: with CXX, RocksDB would be compiled again
//! whenever cargo is called by hand.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const FILES: [(&str, &str, u32); 2] =
    [("c++", include_str!("cxx/c++"), 0o755), ("rocksdb.hpp", include_str!("cxx/rocksdb.hpp"), 0o644)];

/// Lays the compiler under the target directory.
///
/// # Errors
/// What could not be written.
pub fn lay(target: &Path) -> Result<(), String> {
    let directory = directory(target);
    let failed = |error: io::Error| format!("write {}: {error}", directory.display());
    fs::create_dir_all(&directory).map_err(failed)?;
    for (name, text, mode) in FILES {
        let path = directory.join(name);
        // What is there already stays as it is: a header's time of change is part of what Clang checks.
        if fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
            continue;
        }
        let fresh = directory.join(format!(".{name}"));
        fs::write(&fresh, text).map_err(failed)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(mode)).map_err(failed)?;
        fs::rename(&fresh, &path).map_err(failed)?;
    }
    Ok(())
}

/// The PATH that has the compiler first.
///
/// # Errors
/// When the target directory's name has a colon in it.
pub fn path(target: &Path) -> Result<OsString, env::JoinPathsError> {
    let rest = env::var_os("PATH").unwrap_or_default();
    env::join_paths(std::iter::once(directory(target)).chain(env::split_paths(&rest)))
}

fn directory(target: &Path) -> PathBuf {
    target.join("tools/cxx")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// A directory with our c++ and a machine's compiler that only tells its arguments.
    fn machine(name: &str, clang: Option<&str>) -> (PathBuf, OsString) {
        let directory = env::temp_dir().join(format!("xtask-cxx-{name}-{}", std::process::id()));
        let bin = directory.join("bin");
        fs::create_dir_all(&bin).unwrap();
        let programs = [("c++", Some("#!/bin/sh\necho \"c++ $*\"\n")), ("clang++", clang)];
        for (program, text) in programs {
            if let Some(text) = text {
                fs::write(bin.join(program), text).unwrap();
                fs::set_permissions(bin.join(program), fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        lay(&directory).unwrap();
        let path = [super::directory(&directory), bin, "/usr/bin".into(), "/bin".into()];
        (directory, env::join_paths(path).unwrap())
    }

    fn compile(directory: &Path, path: &OsString, arguments: &[&str]) -> String {
        let output =
            Command::new(super::directory(directory).join("c++")).args(arguments).env("PATH", path).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    const ROCKSDB: [&str; 5] = ["-DX=a b", "-o", "/o/x.o", "-c", "rocksdb/db/x.cc"];

    #[test]
    fn what_is_not_rocksdb_goes_to_the_machines_compiler() {
        let (directory, path) = machine("other", Some("#!/bin/sh\necho clang\n"));
        assert_eq!(compile(&directory, &path, &["-c", "lib/other.cc"]), "c++ -c lib/other.cc");
        assert_eq!(compile(&directory, &path, &["-E", "x.c"]), "c++ -E x.c");
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn what_clang_will_not_have_goes_to_the_machines_compiler() {
        let (directory, path) = machine("refused", Some("#!/bin/sh\nexit 1\n"));
        for _ in 0..2 {
            assert_eq!(compile(&directory, &path, &ROCKSDB), "c++ -DX=a b -o /o/x.o -c rocksdb/db/x.cc");
        }
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn rocksdb_is_compiled_with_one_precompiled_header() {
        let clang =
            "#!/bin/sh\necho \"clang++ $*\"\nfor a; do case $a in *making.pch) echo h >$a;; esac; done\n";
        let (directory, path) = machine("taken", Some(clang));
        for _ in 0..2 {
            let line = compile(&directory, &path, &ROCKSDB);
            let line = line.lines().last().unwrap_or_default().to_owned();
            assert!(line.starts_with("clang++ -include-pch "), "{line}");
            assert!(line.ends_with(".pch -DX=a b -o /o/x.o -c rocksdb/db/x.cc"), "{line}");
        }
        let headers = fs::read_dir(super::directory(&directory)).unwrap().flatten();
        let headers = headers.filter(|e| e.file_name().to_string_lossy().ends_with(".pch")).count();
        assert_eq!(headers, 1);
        fs::remove_dir_all(&directory).unwrap();
    }
}
