//! Cargo compiles again what changed, and nothing else, although clones share a target directory.
//!
//! Cargo takes a crate for fresh when no source of it is younger than its last compilation. In a new
//! clone every file is younger: all is compiled again though no byte differs. And of two clones that
//! take turns, the one with the older files is given what was made of the other's. So before each
//! call of cargo that builds, every source is given the time that tells cargo the truth:
//!
//! - the time since when all compilations have seen this very content, if the record
//!   (`record.rs`) knows one;
//! - else now. It is recorded when cargo has ended, well or not.
//!
//! The record promises this: *whatever was compiled in this target directory at `since` or later saw
//! `content`.* What could break it, and what is done then:
//!
//! - Cargo called by hand, in any clone, or by an xtask that was killed: it leaves traces in the
//!   compilation's directory (`units.rs`) that are not in the record. All sources of that package are
//!   given the time of now.
//! - A source edited while cargo runs: its time is no longer the one we gave it. It leaves the record.
//! - A crate with the clone's path in it: it is compiled again when the clone is another.
//! - A second xtask: it waits, from before its first build until the first one's tests have ended,
//!   for they run what was built.
//!
//! What is not seen: cargo called by hand in another clone, if it takes cargo's own lock in the moment
//! between our look and our call of cargo; and what it puts in the place of programs while tests run.
//!
//! A target directory inside the clone that no other clone has used is left alone: there cargo is
//! right by itself.

mod record;
mod sources;
#[cfg(test)]
mod tests;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::workspace::Workspace;
use record::{Record, Seen};
use sources::{Kind, Source};
use units::Unit;

/// The profile that xtask builds; cargo locks it by a file in it.
const PROFILE: &str = "release";
/// These hold for every package.
const FOR_ALL: [&str; 2] = ["Cargo.toml", "clippy.toml"];

/// Calls cargo so that it knows what changed. While there is one, every other xtask that would build
/// in the same target directory waits.
#[derive(Debug)]
pub struct Freshness {
    /// None where cargo needs no help.
    shared: Option<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    target: PathBuf,
    _lock: File,
}

/// All that there is to see before a build.
struct Sight {
    root: PathBuf,
    sources: BTreeMap<PathBuf, Source>,
    /// Their names, by directory.
    packages: BTreeMap<PathBuf, String>,
    units: BTreeMap<String, Unit>,
}

/// Which of the record's entries are not believed.
#[derive(Debug, PartialEq, Eq)]
enum Doubt {
    /// None is.
    All,
    /// Those of these packages' directories are not.
    Of(BTreeSet<PathBuf>),
}

impl Freshness {
    /// Waits for its turn at the target directory.
    ///
    /// # Errors
    /// When that cannot be locked.
    pub fn new(workspace: &Workspace) -> Result<Self, String> {
        let whole = |path: &Path| path.canonicalize().map_err(|error| format!("{}: {error}", path.display()));
        fs::create_dir_all(&workspace.target)
            .map_err(|error| format!("make {}: {error}", workspace.target.display()))?;
        let (root, target) = (whole(&workspace.root)?, whole(&workspace.target)?);
        if target.starts_with(&root) && !directory(&target).exists() {
            return Ok(Self { shared: None });
        }
        let lock = wait_for_turn(&target).map_err(|error| {
            format!("lock {}: {error}; set CARGO_TARGET_DIR to another directory", target.display())
        })?;
        Ok(Self { shared: Some(Shared { root, target, _lock: lock }) })
    }

    /// Does `work`, which calls cargo once to build.
    ///
    /// # Errors
    /// What `work` returns; or that cargo cannot be told the truth, and was not called.
    pub fn build<T>(&self, work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        let Some(shared) = &self.shared else { return work() };
        let (sight, record) = shared.prepare().map_err(|error| {
            format!("{error}; a CARGO_TARGET_DIR inside this clone does without what failed here")
        })?;
        let outcome = work();
        if let Err(error) = shared.seal(&sight, record) {
            eprintln!("{error}; the next build compiles more than it need");
        }
        outcome
    }
}

impl Shared {
    /// Gives every source its time: what is to be recorded once cargo has ended.
    fn prepare(&self) -> Result<(Sight, Record), String> {
        // Keeps cargo out while we look; a build that is still going on is waited for, and seen.
        let _cargo = lock_of_cargo(&self.target).map_err(|error| format!("lock cargo out: {error}"))?;
        let known = Record::read(&self.record()).unwrap_or_default();
        let sources = sources::read(&self.root, &self.target)?;
        let packages = sources::packages(&sources);
        let units = units::scan(&self.target, packages.values());
        let sight = Sight { root: self.root.clone(), sources, packages, units };
        let doubt = sight.doubt(&known);
        // Past every compilation there was, should the clock have gone back.
        let newest_ns = sight.units.values().map(|unit| unit.newest_ns).max().unwrap_or(0);
        let now_ns = self.now_ns()?.max(newest_ns.saturating_add(1));

        let units = sight.units.iter().map(|(name, unit)| (name.clone(), unit.newest_ns)).collect();
        let mut record = Record { root: self.root.clone(), units, sources: BTreeMap::new() };
        let (mut as_built, mut touched) = (0, 0);
        for (path, source) in &sight.sources {
            let since_ns = sight.since_ns(&known, &doubt, path);
            let count = if since_ns.is_some() { &mut as_built } else { &mut touched };
            *count += u32::from(source.kind == Kind::File);
            if let Some(seen) = self.settle(path, source, since_ns, now_ns)? {
                record.sources.insert(path.clone(), seen);
            }
        }
        let why = if doubt == Doubt::All { ": nothing is known for sure" } else { "" };
        eprintln!("sources: {as_built} files as last built, {touched} taken for changed{why}");
        Ok((sight, record))
    }

    /// Gives one source its time: since when it has been as it is, or now. None if it cannot be recorded.
    fn settle(
        &self,
        path: &Path,
        source: &Source,
        since_ns: Option<u64>,
        now_ns: u64,
    ) -> Result<Option<Seen>, String> {
        let place = self.root.join(path);
        let since_ns = since_ns.unwrap_or(now_ns);
        if source.kind != Kind::Link && source.modified_ns != since_ns {
            sources::set_modified(&place, since_ns)?;
            // Edited after it was read, it would carry the old time now.
            let is_kept_file = source.kind == Kind::File && source.content.is_some();
            if is_kept_file && fs::read(&place).ok() != source.content {
                sources::set_modified(&place, now_ns)?;
                return Ok(None);
            }
        }
        Ok(source.content.clone().map(|content| Seen { kind: source.kind, content, since_ns }))
    }

    /// Records, after a call of cargo: what it compiled keeps the promise, for the sources that are
    /// still as we left them.
    fn seal(&self, sight: &Sight, mut record: Record) -> Result<(), String> {
        let ended_ns = self.now_ns()?;
        let units = units::scan(&self.target, sight.packages.values());
        record.units = sealed(&record.units, &units, ended_ns);
        record.sources.retain(|path, seen| {
            let place = self.root.join(path);
            if seen.kind == Kind::Link {
                return fs::read_link(&place).is_ok_and(|to| to.as_os_str().as_bytes() == seen.content);
            }
            fs::symlink_metadata(&place).is_ok_and(|now| sources::modified_ns(&now) == seen.since_ns)
        });
        let path = self.record();
        record.write(&path).map_err(|error| format!("write {}: {error}", path.display()))
    }

    /// The time by the clock that gives cargo's files theirs.
    fn now_ns(&self) -> Result<u64, String> {
        let path = directory(&self.target).join("clock");
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        fs::write(&path, "now").map_err(failed)?;
        Ok(sources::modified_ns(&fs::metadata(&path).map_err(failed)?))
    }

    fn record(&self) -> PathBuf {
        directory(&self.target).join("record")
    }
}

impl Sight {
    fn doubt(&self, known: &Record) -> Doubt {
        let is_known = |path: &Path| match (known.sources.get(path), self.sources.get(path)) {
            (Some(seen), Some(source)) => is_same(seen, source),
            (seen, source) => seen.is_none() && source.is_none(),
        };
        // A link has no time of its own that cargo would look at.
        let mut links = self.sources.iter().filter(|(_, source)| source.kind == Kind::Link);
        let are_links_known = links.all(|(path, _)| is_known(path));
        // What is compiled of a package that we do not know of would not be seen.
        let mut manifests = self.sources.iter().filter(|(path, _)| path.ends_with("Cargo.toml"));
        let are_packages_known = manifests.all(|(_, source)| source.content.is_some());
        let is_top_known = FOR_ALL.iter().all(|name| is_known(Path::new(name)));
        if self.units.is_empty() || !are_links_known || !are_packages_known || !is_top_known {
            return Doubt::All;
        }
        let has_moved = known.root != self.root;
        let doubtful = self.units.iter().filter(|(name, unit)| {
            known.units.get(*name) != Some(&unit.newest_ns) || has_moved && unit.names_clone(&known.root)
        });
        let names: BTreeSet<&String> = doubtful.map(|(_, unit)| &unit.package).collect();
        let packages = self.packages.iter().filter(|(_, name)| names.contains(name));
        Doubt::Of(packages.map(|(directory, _)| directory.clone()).collect())
    }

    /// Since when every compilation has seen a source as it is; None if that is not known.
    fn since_ns(&self, known: &Record, doubt: &Doubt, path: &Path) -> Option<u64> {
        let (seen, source) = (known.sources.get(path)?, self.sources.get(path)?);
        let is_elsewhere = known.root != self.root && names_its_clone(path, &seen.content);
        (is_same(seen, source) && !doubt.covers(path) && !is_elsewhere).then_some(seen.since_ns)
    }
}

impl Doubt {
    fn covers(&self, path: &Path) -> bool {
        match self {
            Self::All => true,
            Self::Of(packages) => path.ancestors().any(|directory| packages.contains(directory)),
        }
    }
}

fn is_same(seen: &Seen, source: &Source) -> bool {
    seen.kind == source.kind && source.content.as_ref() == Some(&seen.content)
}

/// Whether what is compiled from this text has the clone's path in it. Not asked of xtask: its program
/// is seen to by `itself.rs`, and its tests have no use for the path.
fn names_its_clone(path: &Path, content: &[u8]) -> bool {
    if path.starts_with("xtask") {
        return false;
    }
    let text: String = String::from_utf8_lossy(content).split_whitespace().collect();
    let is_build_script = path.ends_with("build.rs");
    text.contains("env!(\"CARGO_MANIFEST_") || is_build_script && text.contains("CARGO_MANIFEST_")
}

/// The units to vouch for after a call of cargo that has ended: all that it can have compiled, and
/// those that were vouched for before. A later one is another cargo's that waited for ours.
fn sealed(
    known: &BTreeMap<String, u64>,
    units: &BTreeMap<String, Unit>,
    ended_ns: u64,
) -> BTreeMap<String, u64> {
    let vouched = units.iter().filter_map(|(name, unit)| {
        let is_ours = Path::new(name).starts_with(PROFILE) && unit.newest_ns <= ended_ns;
        let newest_ns = if is_ours { Some(unit.newest_ns) } else { known.get(name).copied() };
        Some((name.clone(), newest_ns?))
    });
    vouched.collect()
}

fn directory(target: &Path) -> PathBuf {
    target.join("freshness")
}

/// The lock that every xtask holds from its first build to its end.
fn wait_for_turn(target: &Path) -> io::Result<File> {
    let directory = directory(target);
    fs::create_dir_all(&directory)?;
    lock(File::create(directory.join("lock"))?, "another xtask", target)
}

/// Cargo's own lock of the profile that we build; None before its first build.
fn lock_of_cargo(target: &Path) -> io::Result<Option<File>> {
    match File::open(target.join(PROFILE).join(".cargo-lock")) {
        Ok(file) => lock(file, "cargo", target).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Locks a file; says for whom it waits, if it must.
fn lock(file: File, holder: &str, target: &Path) -> io::Result<File> {
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("{holder} works in {}: waiting for its end", target.display());
            file.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    Ok(file)
}
