//! `cairn mount check`: the bucket and the namespace, object by object.

mod compare;
mod sides;

use std::collections::BTreeMap;

use cairn_sdk::{Client, ListedObjects, MountConflict, MountFigures, MountStatus, SyncOptions};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use self::compare::{Difference, Why};
use self::sides::Sides;
use super::{mount_over, show};
use crate::cli::MountCheckArgs;
use crate::exit::CliError;
use crate::fs::remote;
use crate::output::{line, object};
use crate::progress::spinner;

/// Conflicts that are looked through for the reason of a difference.
const CONFLICTS_MAX: usize = 100_000;

/// What was found so far.
#[derive(Default)]
struct Sum {
    directories: u64,
    /// Names on either side.
    objects: u64,
    differences: BTreeMap<Why, u64>,
    left_out: u64,
}

impl Sum {
    /// Differences that are not on their way to the bucket.
    fn wrong(&self) -> u64 {
        self.differences.iter().filter(|(why, _)| **why != Why::Pending).map(|(_, count)| count).sum()
    }
}

/// A check that goes on.
struct Check<'a> {
    client: &'a Client,
    mount: MountStatus,
    conflicts: BTreeMap<Vec<u8>, MountConflict>,
    repair: bool,
    at_once: usize,
    json: bool,
    sum: Sum,
    bar: Option<ProgressBar>,
}

pub async fn run(client: &Client, args: &MountCheckArgs, json: bool) -> Result<(), CliError> {
    let path = remote(&args.path)?;
    let (mount, below) = mount_over(client, &path).await?;
    let conflicts = client.mount_conflicts(mount.id, None, CONFLICTS_MAX).await?;
    let mut check = Check {
        client,
        conflicts: conflicts.into_iter().map(|conflict| (conflict.key.clone(), conflict)).collect(),
        mount,
        repair: args.repair,
        at_once: usize::from(args.jobs),
        json,
        sum: Sum::default(),
        bar: if json { None } else { spinner() },
    };
    let outcome = check.tree(below).await;
    if let Some(bar) = &check.bar {
        bar.finish_and_clear();
    }
    outcome?;
    check.tell()
}

impl Check<'_> {
    /// A directory with all below it, the deepest of what waits first, so that little does.
    async fn tree(&mut self, top: Vec<u8>) -> Result<(), CliError> {
        let mut waiting = vec![top];
        while let Some(below) = waiting.pop() {
            let directories = self.directory(&below).await?;
            let name =
                |name: Vec<u8>| if below.is_empty() { name } else { [&below, &b"/"[..], &name].concat() };
            waiting.extend(directories.into_iter().map(name));
            self.sum.directories += 1;
            if let Some(bar) = &self.bar {
                let Sum { directories, objects, .. } = &self.sum;
                bar.set_message(format!(
                    "{directories} directories, {objects} objects, {} differ",
                    self.differ()
                ));
            }
        }
        Ok(())
    }

    fn differ(&self) -> u64 {
        self.sum.differences.values().sum()
    }

    /// Compares one directory; answers those in it.
    async fn directory(&mut self, below: &[u8]) -> Result<Vec<Vec<u8>>, CliError> {
        let (mut sides, mut found) = self.look(below).await?;
        if !found.is_empty() {
            // Both sides change all the time: what is so twice is so.
            (sides, found) = self.look(below).await?;
        }
        if found.iter().any(|difference| difference.or_pending.is_some())
            && !self.figures().await?.is_settled()
        {
            // Whether it is ours, or somebody else's that is not known yet: reading it tells.
            self.read(below).await?;
            let (_, after) = self.look(below).await?;
            let unsure: Vec<Vec<u8>> = after.iter().filter(|d| d.or_pending.is_some()).map(name_of).collect();
            found
                .iter_mut()
                .filter(|difference| unsure.contains(&difference.name))
                .for_each(Difference::pend);
        }
        let wrong = |difference: &Difference| !matches!(difference.why, Why::Pending | Why::Conflict);
        if self.repair && found.iter().any(wrong) {
            self.read(below).await?;
            (sides, found) = self.look(below).await?;
            if !self.figures().await?.is_settled() {
                found.iter_mut().for_each(Difference::pend);
            }
        }
        self.sum.objects += sides.names();
        for (key, why) in &sides.bucket.left_out {
            self.sum.left_out += 1;
            self.left_out(key, why)?;
        }
        for difference in &found {
            *self.sum.differences.entry(difference.why).or_default() += 1;
            self.difference(below, difference)?;
        }
        Ok(sides.directories())
    }

    async fn look(&self, below: &[u8]) -> Result<(Sides, Vec<Difference>), CliError> {
        let sides = Sides::load(self.client, &self.mount, below).await?;
        let prefix = self.mount.prefix_of(below);
        let mut found = compare::differences(self.client, &sides, &prefix, self.at_once).await?;
        for difference in &mut found {
            let key = [prefix.as_slice(), difference.name.as_slice()].concat();
            if difference.why != Why::Pending
                && let Some(conflict) = self.conflicts.get(&key)
            {
                difference.why = Why::Conflict;
                difference.what = format!("conflict {}: {}", conflict.id, conflict.what);
            }
        }
        Ok((sides, found))
    }

    /// Reads a directory from the bucket, if it is there.
    async fn read(&self, below: &[u8]) -> Result<(), CliError> {
        let options = SyncOptions { recursive: false, ..SyncOptions::default() };
        match self.client.mount_sync(sides::path(&self.mount, below), options, |_| ()).await {
            Err(error) if sides::absent(&error) => Ok(()),
            outcome => Ok(outcome.map(|_| ())?),
        }
    }

    async fn figures(&self) -> Result<MountFigures, CliError> {
        Ok(self.client.mount_status(self.mount.root).await?.figures.unwrap_or_default())
    }

    fn difference(&self, below: &[u8], difference: &Difference) -> Result<(), CliError> {
        let path = sides::path(&self.mount, &[below, &b"/"[..], &difference.name].concat());
        let path = String::from_utf8_lossy(&path).into_owned();
        if self.json {
            return self.out(&json!({"path": path, "why": difference.why.word(), "what": difference.what}));
        }
        self.say(&format!("{path}\t{}\t{}", difference.why.word(), difference.what))
    }

    fn left_out(&self, key: &str, why: &str) -> Result<(), CliError> {
        if self.json {
            return self.out(&json!({"key": key, "why": "left-out", "what": why}));
        }
        self.say(&format!("s3://{}/{key}\tleft-out\t{why}", self.mount.options.bucket))
    }

    fn out(&self, value: &Value) -> Result<(), CliError> {
        object(value)
    }

    fn say(&self, text: &str) -> Result<(), CliError> {
        match &self.bar {
            Some(bar) => bar.suspend(|| line(text)),
            None => line(text),
        }
    }

    /// What it came to.
    fn tell(&self) -> Result<(), CliError> {
        let Sum { directories, objects, differences, left_out } = &self.sum;
        let of = |why| differences.get(&why).copied().unwrap_or(0);
        if self.json {
            let counts: serde_json::Map<String, Value> =
                Why::ALL.iter().map(|why| (why.word().to_owned(), of(*why).into())).collect();
            object(&json!({
                "mount": show::path_of(&self.mount), "directories": directories, "objects": objects,
                "left_out": left_out, "differences": counts,
            }))?;
        } else {
            let counts: Vec<String> =
                Why::ALL.iter().map(|why| format!("{} {}", of(*why), why.word())).collect();
            line(format!(
                "{directories} directories, {objects} objects: {}; {left_out} keys without a name",
                counts.join(", ")
            ))?;
        }
        match self.sum.wrong() {
            0 => Ok(()),
            differences => Err(CliError::MountDiffers { differences }),
        }
    }
}

fn name_of(difference: &Difference) -> Vec<u8> {
    difference.name.clone()
}

/// All pages of what the bucket holds in a directory.
async fn bucket_side(client: &Client, mount: &MountStatus, below: &[u8]) -> Result<ListedObjects, CliError> {
    let mut all = ListedObjects::default();
    let mut at = None;
    loop {
        let page = client.mount_objects(mount, below, at.clone()).await?;
        all.objects.extend(page.objects);
        all.directories.extend(page.directories);
        all.left_out.extend(page.left_out);
        if page.continuation.is_none() || page.continuation == at {
            return Ok(all);
        }
        at = page.continuation;
    }
}
