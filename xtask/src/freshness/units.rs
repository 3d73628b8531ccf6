//! Cargo's compilations of our own crates, as its `.fingerprint` directories tell of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::sources::modified_ns;

/// What cargo keeps of one compilation: a unit, in its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The package that was compiled.
    pub package: String,
    /// The newest time of what cargo has written of it: it changes with each compilation, even one that fails.
    pub newest_ns: u64,
    directory: PathBuf,
}

/// Every unit of these packages in every profile of a target directory, as `profile/package-hash`.
/// Without xtask itself as a program: cargo builds that before we run, from the clone it is called in.
pub fn scan<'a>(target: &Path, packages: impl Iterator<Item = &'a String>) -> BTreeMap<String, Unit> {
    let packages: Vec<&String> = packages.collect();
    let profiles = below(target);
    let with_triple: Vec<PathBuf> = profiles.iter().flat_map(|profile| below(profile)).collect();
    let mut units = BTreeMap::new();
    for profile in profiles.iter().chain(&with_triple) {
        for directory in below(&profile.join(".fingerprint")) {
            let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let package = name.rsplit_once('-').map_or("", |(package, _)| package);
            if !packages.iter().any(|own| *own == package) || directory.join("bin-xtask").exists() {
                continue;
            }
            let profile = profile.strip_prefix(target).unwrap_or(profile);
            let newest_ns = newest_ns(&directory);
            let package = package.to_owned();
            units.insert(format!("{}/{name}", profile.display()), Unit { package, newest_ns, directory });
        }
    }
    units
}

impl Unit {
    #[cfg(test)]
    pub fn for_test(package: &str, newest_ns: u64) -> Self {
        Self { package: package.to_owned(), newest_ns, directory: PathBuf::new() }
    }

    /// Whether a file of that clone is among what it was made of: one outside its package, of which
    /// cargo keeps the whole path. The manifest and Clippy's settings at the top do not count: all of
    /// Clippy's units name them.
    pub fn names_clone(&self, root: &Path) -> bool {
        files(&self.directory).iter().any(|file| {
            let is_list = file.file_name().is_some_and(|name| name.as_bytes().starts_with(b"dep-"));
            is_list && !fs::read(file).is_ok_and(|list| !names(&list, root.as_os_str().as_bytes()))
        })
    }
}

fn names(list: &[u8], root: &[u8]) -> bool {
    let found = list.windows(root.len().max(1)).enumerate().filter(|(_, window)| *window == root);
    let mut behind = found.map(|(at, _)| list.get(at + root.len()..).unwrap_or_default());
    behind.any(|rest| !rest.starts_with(b"/Cargo.toml") && !rest.starts_with(b"/clippy.toml"))
}

fn newest_ns(directory: &Path) -> u64 {
    let times = files(directory).into_iter().filter_map(|file| fs::metadata(file).ok());
    times.map(|metadata| modified_ns(&metadata)).max().unwrap_or(0)
}

/// The directories in a directory; none when it is not there.
fn below(directory: &Path) -> Vec<PathBuf> {
    files(directory).into_iter().filter(|path| path.is_dir()).collect()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_a_clone_by_a_file_of_it() {
        for (list, named) in [
            ("\u{1}src/lib.rs", false),
            ("\u{1}/a/b/other/x.txt", true),
            ("\u{1}/a/b/Cargo.toml", false),
            ("\u{1}/a/b/clippy.toml\u{1}/a/b/x", true),
            ("\u{1}/a/bc/x", true),
            ("\u{1}/a", false),
        ] {
            assert_eq!(names(list.as_bytes(), b"/a/b"), named, "{list:?}");
        }
    }

    #[test]
    fn units_of_our_packages_are_found_in_every_profile() {
        let target = std::env::temp_dir().join(format!("xtask-units-{}", std::process::id()));
        for file in [
            "release/.fingerprint/a-b-01/dep-lib-a_b",
            "release/.fingerprint/serde-01/dep-lib-serde",
            "release/.fingerprint/xtask-01/bin-xtask",
            "release/.fingerprint/xtask-02/test-bin-xtask",
            "debug/.fingerprint/a-b-02/dep-lib-a_b",
            "x86_64/release/.fingerprint/a-b-03/dep-lib-a_b",
        ] {
            let path = target.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let packages = ["a-b".to_owned(), "xtask".to_owned()];
        let units = scan(&target, packages.iter());
        let names: Vec<&String> = units.keys().collect();
        assert_eq!(names, ["debug/a-b-02", "release/a-b-01", "release/xtask-02", "x86_64/release/a-b-03"]);
        assert_eq!(units["release/a-b-01"].package, "a-b");
        assert!(units.values().all(|unit| unit.newest_ns > 0));
        fs::remove_dir_all(&target).unwrap();
    }
}
