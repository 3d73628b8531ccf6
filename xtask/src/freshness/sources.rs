//! The tree that cargo compiles: what is in it, and the times its files carry.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// A larger file is not kept, and nothing once this much is: what is not kept is never known.
const FILE_BYTES_MAX: u64 = 1 << 20;
const TREE_BYTES_MAX: usize = 64 << 20;

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Link,
}

/// One path of the tree.
#[derive(Debug, Clone)]
pub struct Source {
    pub kind: Kind,
    /// A file's bytes, a directory's names, where a link leads; None for a file that is not kept.
    pub content: Option<Vec<u8>>,
    pub modified_ns: u64,
}

/// Every file, directory and link below a clone's top, by its path from there, but for `.git`, the
/// target directory and others of its kind, and what cargo could not read either. A link's target is
/// as cargo sees it: what lies in the tree is listed under its own path.
///
/// # Errors
/// When the tree cannot be read.
pub fn read(root: &Path, target: &Path) -> Result<BTreeMap<PathBuf, Source>, String> {
    let mut sources = BTreeMap::new();
    let mut directories = vec![PathBuf::new()];
    let mut bytes = 0;
    while let Some(directory) = directories.pop() {
        let here = root.join(&directory);
        let Some(mut names) = readable(&here, names(&here))? else { continue };
        names.retain(|name| !is_left_out(&here.join(name), target));
        for name in &names {
            let (path, place) = (directory.join(name), here.join(name));
            let bytes_max = if bytes < TREE_BYTES_MAX { FILE_BYTES_MAX } else { 0 };
            match readable(&place, source(&place, bytes_max))?.flatten() {
                Some(source) if source.kind == Kind::Directory => directories.push(path),
                Some(source) => {
                    bytes += source.content.as_ref().map_or(0, Vec::len);
                    sources.insert(path, source);
                }
                None => {}
            }
        }
        let Some(metadata) = readable(&here, fs::metadata(&here))? else { continue };
        let names: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        let (content, modified_ns) = (Some(names.join(&b'\n')), modified_ns(&metadata));
        sources.insert(directory, Source { kind: Kind::Directory, content, modified_ns });
    }
    Ok(sources)
}

fn is_left_out(path: &Path, target: &Path) -> bool {
    path == target || path.ends_with(".git") || path.join("CACHEDIR.TAG").exists()
}

/// None for what is gone or not ours to read.
fn readable<T>(path: &Path, read: io::Result<T>) -> Result<Option<T>, String> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if [ErrorKind::NotFound, ErrorKind::PermissionDenied].contains(&error.kind()) => Ok(None),
        Err(error) => Err(failed(path, &error)),
    }
}

fn names(directory: &Path) -> io::Result<Vec<OsString>> {
    let entries = fs::read_dir(directory)?;
    let mut names: Vec<OsString> =
        entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}

/// None for a socket and the like.
fn source(path: &Path, bytes_max: u64) -> io::Result<Option<Source>> {
    let metadata = fs::symlink_metadata(path)?;
    let (kind, content) = if metadata.is_dir() {
        (Kind::Directory, None)
    } else if metadata.is_symlink() {
        (Kind::Link, Some(fs::read_link(path)?.into_os_string().into_vec()))
    } else if !metadata.is_file() {
        return Ok(None);
    } else if metadata.len() > bytes_max {
        (Kind::File, None)
    } else {
        (Kind::File, Some(fs::read(path)?))
    };
    Ok(Some(Source { kind, content, modified_ns: modified_ns(&metadata) }))
}

/// The names of the packages in the tree, by their directories.
pub fn packages(sources: &BTreeMap<PathBuf, Source>) -> BTreeMap<PathBuf, String> {
    let manifests = sources.iter().filter(|(path, _)| path.ends_with("Cargo.toml"));
    let named = manifests.filter_map(|(path, source)| {
        let text = String::from_utf8_lossy(source.content.as_ref()?);
        let (_, package) = text.split_once("[package]")?;
        let name = package.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            if key.trim() == "name" { value.split(['"', '\'']).nth(1) } else { None }
        })?;
        Some((path.parent()?.to_path_buf(), name.to_owned()))
    });
    named.collect()
}

/// Gives a file or directory this time of change.
///
/// # Errors
/// When that cannot be done, or the file system rounds the time: cargo would then compare another.
pub fn set_modified(path: &Path, time_ns: u64) -> Result<(), String> {
    let set = || {
        let file = File::open(path)?;
        file.set_modified(UNIX_EPOCH + Duration::from_nanos(time_ns))?;
        if modified_ns(&file.metadata()?) == time_ns {
            Ok(())
        } else {
            Err(io::Error::other("the file system does not keep times to the nanosecond"))
        }
    };
    set().map_err(|error: io::Error| failed(path, &error))
}

/// When it was changed, in nanoseconds since 1970.
pub fn modified_ns(metadata: &Metadata) -> u64 {
    let seconds = u64::try_from(metadata.mtime()).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(metadata.mtime_nsec()).unwrap_or(0))
}

fn failed(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_tree_is_all_but_what_is_built() {
        let root = std::env::temp_dir().join(format!("xtask-sources-{}", std::process::id()));
        for directory in ["a/src", ".git", "target", "other-target", ".cargo"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        let files =
            ["a/src/lib.rs", ".git/HEAD", "target/x", "other-target/CACHEDIR.TAG", ".cargo/config.toml"];
        for file in files {
            fs::write(root.join(file), file).unwrap();
        }
        fs::write(root.join("a/Cargo.toml"), "[lib]\nname = \"no\"\n[package]\nname = \"a-b\" # so\n")
            .unwrap();
        fs::write(root.join("large"), vec![0; FILE_BYTES_MAX as usize + 1]).unwrap();
        symlink("a/src", root.join("link")).unwrap();

        let sources = read(&root, &root.join("target")).unwrap();
        let paths: Vec<&str> = sources.keys().map(|path| path.to_str().unwrap()).collect();
        let wanted = [
            "",
            ".cargo",
            ".cargo/config.toml",
            "a",
            "a/Cargo.toml",
            "a/src",
            "a/src/lib.rs",
            "large",
            "link",
        ];
        assert_eq!(paths, wanted);
        let content = |path: &str| sources[Path::new(path)].content.as_deref();
        assert_eq!(content(""), Some(&b".cargo\na\nlarge\nlink"[..]));
        assert_eq!(content("link"), Some(&b"a/src"[..]));
        assert_eq!(content("large"), None);
        assert_eq!(packages(&sources), [(PathBuf::from("a"), "a-b".to_owned())].into());
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn times_of_files_and_directories_are_set() {
        let directory = std::env::temp_dir().join(format!("xtask-times-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("file");
        fs::write(&file, "").unwrap();
        for path in [&file, &directory] {
            set_modified(path, 1_234_567_890_123_456_789).unwrap();
            assert_eq!(modified_ns(&fs::metadata(path).unwrap()), 1_234_567_890_123_456_789);
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
