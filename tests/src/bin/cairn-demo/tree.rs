//! [`Tree`]: the source tree that is put into the cluster.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::DemoError;

/// Files and bytes taken from cargo's registry, at most.
const FILES_MAX: usize = 4_000;
const BYTES_MAX: u64 = 64 << 20;
/// A crate with more than this is left out, so that there are many different ones.
const CRATE_FILES_MAX: usize = 800;
const CRATE_BYTES_MAX: u64 = 12 << 20;
/// With fewer files the registry is taken for missing.
const FILES_MIN: usize = 500;
/// What a directory that the user names may hold, at most.
const NAMED_ENTRIES_MAX: usize = 200_000;
const NAMED_BYTES_MAX: u64 = 4 << 30;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File { bytes: u64 },
    Symlink { to: PathBuf },
}

/// One entry of the tree.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where it is on this machine.
    pub local: PathBuf,
    /// Its path below the tree's top.
    pub relative: PathBuf,
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
}

/// A tree: every directory stands before what it holds.
#[derive(Debug, Default)]
pub struct Tree {
    pub entries: Vec<Entry>,
    pub files: u64,
    pub directories: u64,
    pub symlinks: u64,
    pub bytes: u64,
    /// Sockets, devices and the like, left out.
    pub skipped: u64,
    /// For the person who watches.
    pub description: String,
}

impl Tree {
    /// The directory named; else crates of cargo's registry; else the repository that cargo or xtask started this in.
    pub fn choose(named: Option<&Path>) -> Result<Self, DemoError> {
        if let Some(directory) = named {
            return Self::of_directory(directory);
        }
        let registry = Self::of_registry()?;
        if registry.files as usize >= FILES_MIN {
            return Ok(registry);
        }
        let mut tree = Self::default();
        // Asked of whoever starts us: what is compiled in is the same in every clone.
        let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
        let repository = package.parent().unwrap_or(Path::new("."));
        let built = |path: &Path| path.ends_with("target") || path.ends_with(".git");
        tree.add(repository, Path::new(""), &|path| !built(path))?;
        tree.description =
            format!("this repository ({}), cargo's registry being empty", repository.display());
        Ok(tree)
    }

    fn of_directory(directory: &Path) -> Result<Self, DemoError> {
        let mut tree = Self::default();
        let top = directory.canonicalize().map_err(|e| DemoError::io("read", directory, e))?;
        if !top.is_dir() {
            return Err(DemoError::Usage(format!("{} is not a directory", directory.display())));
        }
        tree.add(&top, Path::new(""), &|_| true)?;
        tree.description = top.display().to_string();
        if tree.files == 0 {
            return Err(DemoError::Usage(format!("{} holds no files", top.display())));
        }
        Ok(tree)
    }

    /// Whole crates in the order of their names, as many as fit.
    fn of_registry() -> Result<Self, DemoError> {
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo")));
        let sources = home.unwrap_or_default().join("registry/src");
        let mut tree = Self::default();
        let mut crates = 0_u64;
        for registry in subdirectories(&sources) {
            for package in subdirectories(&registry) {
                let mut one = Self::default();
                let name = PathBuf::from(package.file_name().unwrap_or_default());
                one.add_top(&package, &name)?;
                one.add(&package, &name, &|_| true)?;
                let too_large = one.files as usize > CRATE_FILES_MAX || one.bytes > CRATE_BYTES_MAX;
                let fits =
                    (tree.files + one.files) as usize <= FILES_MAX && tree.bytes + one.bytes <= BYTES_MAX;
                let known = tree.entries.iter().any(|entry| entry.relative == name);
                if too_large || !fits || known {
                    continue;
                }
                crates += 1;
                tree.absorb(one);
            }
        }
        tree.description = format!("{crates} crates of {}", sources.display());
        Ok(tree)
    }

    fn absorb(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.files += other.files;
        self.directories += other.directories;
        self.symlinks += other.symlinks;
        self.bytes += other.bytes;
        self.skipped += other.skipped;
    }

    fn add_top(&mut self, local: &Path, relative: &Path) -> Result<(), DemoError> {
        let meta = fs::metadata(local).map_err(|e| DemoError::io("read", local, e))?;
        self.push(local, relative, Kind::Directory, &meta);
        Ok(())
    }

    fn push(&mut self, local: &Path, relative: &Path, kind: Kind, meta: &fs::Metadata) {
        match &kind {
            Kind::Directory => self.directories += 1,
            Kind::File { bytes } => {
                self.files += 1;
                self.bytes += bytes;
            }
            Kind::Symlink { .. } => self.symlinks += 1,
        }
        let mode = meta.permissions().mode() & 0o7777;
        self.entries.push(Entry { local: local.to_owned(), relative: relative.to_owned(), kind, mode });
    }

    /// Adds what lies below `local`, not `local` itself.
    fn add(
        &mut self,
        local: &Path,
        relative: &Path,
        wanted: &dyn Fn(&Path) -> bool,
    ) -> Result<(), DemoError> {
        let listed = fs::read_dir(local).map_err(|e| DemoError::io("list", local, e))?;
        let mut below = Vec::new();
        for entry in listed {
            below.push(entry.map_err(|e| DemoError::io("list", local, e))?);
        }
        below.sort_by_key(fs::DirEntry::file_name);
        for entry in below {
            let path = entry.path();
            if !wanted(&path) {
                continue;
            }
            let inside = relative.join(entry.file_name());
            let meta = fs::symlink_metadata(&path).map_err(|e| DemoError::io("read", &path, e))?;
            let kind = if meta.is_dir() {
                Kind::Directory
            } else if meta.is_file() {
                Kind::File { bytes: meta.len() }
            } else if meta.is_symlink() {
                Kind::Symlink { to: fs::read_link(&path).map_err(|e| DemoError::io("read", &path, e))? }
            } else {
                self.skipped += 1;
                continue;
            };
            let descend = kind == Kind::Directory;
            self.push(&path, &inside, kind, &meta);
            if self.entries.len() > NAMED_ENTRIES_MAX || self.bytes > NAMED_BYTES_MAX {
                let limit = format!("{NAMED_ENTRIES_MAX} entries or {} MiB", NAMED_BYTES_MAX >> 20);
                return Err(DemoError::Usage(format!(
                    "the demo takes up to {limit}: name a smaller directory"
                )));
            }
            if descend {
                self.add(&path, &inside, wanted)?;
            }
        }
        Ok(())
    }
}

/// The directories in a directory, in order; none when it cannot be read.
fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let Ok(listed) = fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).filter(|p| p.is_dir()).collect();
    found.sort();
    found
}
