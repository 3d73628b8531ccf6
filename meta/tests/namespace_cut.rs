//! Files that are cut, or written anew, where they have more extents than one entry may remove.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;

use cairn_meta::keys::contents::PARTS_MAX;
use cairn_meta::namespace::{Bounds, Command, Operation, Reply, Target, jobs, read};
use cairn_types::limits::ROWS_PER_ENTRY_MAX;
use cairn_types::{ChunkId, Extent, FsError, InodeId};
use driver::{Driver, extent};

/// More extents than one entry may remove.
const MANY: u64 = ROWS_PER_ENTRY_MAX as u64 + 1;

/// Lays single bytes from `first` on, every other one, so that none joins its neighbour.
fn scatter(d: &mut Driver, ino: InodeId, first: u64, count: u64, chunk: ChunkId) {
    let all: Vec<Extent> = (0..count).map(|n| extent(first + 2 * n, 1, chunk, n)).collect();
    for some in all.chunks(1_000) {
        d.done(Operation::Commit { ino, extents: some.to_vec(), expected_length: None });
    }
}

fn set_size(d: &mut Driver, size: u64) -> Reply {
    d.ask(Operation::SetAttr {
        target: Target::path("/f"),
        mode: None,
        uid: None,
        gid: None,
        size: Some(size),
        mtime: None,
        atime: None,
        expected_version: None,
    })
}

fn put(d: &mut Driver, extents: Vec<Extent>) -> Reply {
    d.ask(Operation::Create {
        target: Target::path("/f"),
        mode: 0o644,
        uid: 0,
        gid: 0,
        exclusive: false,
        truncate: true,
        extents,
    })
}

/// All of a file, as a reader that asks page by page.
fn extents_of(d: &Driver, ino: InodeId) -> Vec<Extent> {
    let (mut all, mut from): (Vec<Extent>, u64) = (Vec::new(), 0);
    loop {
        let page = read::extents(&d.store, &Target::ino(ino), from, u64::MAX).unwrap();
        from = page.extents.last().map_or(from, Extent::end);
        all.extend(page.extents);
        if !page.more {
            return all;
        }
    }
}

fn are_detached(d: &Driver) -> bool {
    !jobs::detached(&d.store, None, 1).unwrap().is_empty()
}

/// Removes what is detached, as the leader does; answers the steps that it took.
fn remove_all(d: &mut Driver) -> u64 {
    let mut steps = 0;
    loop {
        let Some(content) = jobs::detached(&d.store, None, 1).unwrap().pop() else { return steps };
        d.ok(Command::PurgeContent { content });
        steps += 1;
    }
}

#[test]
fn a_file_of_any_number_of_extents_is_replaced_in_one_entry() {
    let mut d = Driver::new();
    let chunk = d.shared_chunk();
    let ino = d.file("/f");
    scatter(&mut d, ino, 0, MANY, chunk);
    let new = vec![extent(0, 10, chunk, 1_000_000)];
    let inode = put(&mut d, new.clone()).unwrap().inode.unwrap();
    assert_eq!((inode.ino, inode.size), (ino, 10), "the same file, at once with its new length");
    assert_eq!(extents_of(&d, ino), new);
    assert_eq!(d.chunk(chunk).live_bytes, MANY + 10, "what waits for its removal is live");
    d.check();
    // Removed in bounded steps, which the file's readers do not see.
    let content = jobs::detached(&d.store, None, 10).unwrap()[0];
    d.ok(Command::PurgeContent { content });
    assert_eq!(d.chunk(chunk).live_bytes, MANY + 10 - Bounds::default().rows_at_once as u64);
    assert_eq!(extents_of(&d, ino), new);
    d.check();
    assert_eq!(remove_all(&mut d), 16);
    assert_eq!(d.propose(Command::PurgeContent { content }), Err(FsError::NotFound));
    assert_eq!((d.chunk(chunk).live_bytes, extents_of(&d, ino)), (10, new));
    // And once more, from the content that it has now.
    scatter(&mut d, ino, 0, 300, chunk);
    put(&mut d, Vec::new()).unwrap();
    assert!(are_detached(&d) && extents_of(&d, ino).is_empty());
    remove_all(&mut d);
    assert_eq!(d.chunk(chunk).live_bytes, 0);
    d.check();
}

#[test]
fn a_file_of_any_number_of_extents_is_cut_at_any_length_in_one_entry() {
    let mut d = Driver::new();
    let chunk = d.shared_chunk();
    let ino = d.file("/f");
    d.done(Operation::Commit { ino, extents: vec![extent(0, 100, chunk, 0)], expected_length: None });
    scatter(&mut d, ino, 200, MANY, chunk);
    // Through an extent, which keeps what lies before.
    assert_eq!(set_size(&mut d, 60).unwrap().inode.unwrap().size, 60);
    let left = extent(0, 60, chunk, 0);
    assert_eq!(extents_of(&d, ino), vec![left.clone()]);
    d.check();
    // Grown and written where the old extents still lie, and over the cut.
    assert_eq!(set_size(&mut d, 5_000).unwrap().inode.unwrap().size, 5_000);
    assert_eq!(extents_of(&d, ino), vec![left], "a hole, not what was there");
    let over = vec![extent(50, 200, chunk, 1_000)];
    d.done(Operation::Commit { ino, extents: over, expected_length: Some(5_000) });
    let want = vec![extent(0, 50, chunk, 0), extent(50, 10, chunk, 1_000), extent(60, 190, chunk, 1_010)];
    assert_eq!(extents_of(&d, ino), want);
    let waiting: Vec<_> = read::unpersisted(&d.store, ino).unwrap().1.into_iter().collect();
    assert_eq!((read::unpersisted(&d.store, ino).unwrap().0, waiting), (250, vec![chunk]));
    d.check();
    remove_all(&mut d);
    assert_eq!((extents_of(&d, ino), d.chunk(chunk).live_bytes), (want, 250));
    d.check();
}

#[test]
fn a_file_that_was_cut_is_cut_again_and_unlinked_while_the_rest_is_removed() {
    let mut d = Driver::new();
    let chunk = d.shared_chunk();
    let ino = d.file("/f");
    scatter(&mut d, ino, 0, 2_000, chunk);
    set_size(&mut d, 1_000).unwrap();
    scatter(&mut d, ino, 1_000, 600, chunk);
    set_size(&mut d, 500).unwrap();
    assert_eq!(extents_of(&d, ino).len(), 250);
    d.check();
    let content = jobs::detached(&d.store, None, 1).unwrap()[0];
    d.ok(Command::PurgeContent { content });
    scatter(&mut d, ino, 500, 700, chunk);
    d.unlink("/f");
    d.check();
    for _ in 0..8 {
        d.ok(Command::Purge { ino });
        d.check();
        if jobs::orphans(&d.store, None, 1).unwrap().is_empty() {
            break;
        }
        let content = jobs::detached(&d.store, None, 1).unwrap()[0];
        d.ok(Command::PurgeContent { content });
    }
    remove_all(&mut d);
    assert!(jobs::orphans(&d.store, None, 1).unwrap().is_empty());
    assert_eq!(d.chunk(chunk).live_bytes, 0);
    d.check();
}

#[test]
fn a_tail_goes_on_after_a_cut_and_what_was_cut_stays_gone_after_its_removal() {
    let mut d = Driver::new();
    let chunk = d.shared_chunk();
    let ino = d.file("/f");
    scatter(&mut d, ino, 0, 1_000, chunk);
    put(&mut d, Vec::new()).unwrap();
    let tail = d.open_tail(ino, 0, 1).unwrap().chunk.unwrap().chunk;
    remove_all(&mut d);
    let marks = vec![d.mark(1, 1, 0)];
    d.close(tail, 70, marks);
    assert_eq!(extents_of(&d, ino), vec![extent(0, 70, tail, 0)]);
    assert_eq!((d.chunk(chunk).live_bytes, d.chunk(tail).live_bytes), (0, 70));
    d.check();
}

#[test]
fn a_file_has_so_many_parts_and_then_is_cut_in_smaller_steps() {
    let mut d = Driver::new();
    d.bounds = Bounds { rows_at_once: 1, ..Bounds::default() };
    let chunk = d.shared_chunk();
    let ino = d.file("/f");
    let parts = PARTS_MAX as u64;
    // Each cut lies above the one before, so that no part goes.
    for n in 0..parts {
        scatter(&mut d, ino, 10 * n, 3, chunk);
        set_size(&mut d, 10 * n + 1).unwrap();
    }
    d.check();
    scatter(&mut d, ino, 10 * parts, MANY, chunk);
    let size = d.stat("/f").unwrap().size;
    assert_eq!(set_size(&mut d, 10 * parts).map(drop), Err(FsError::TooLarge));
    assert_eq!(d.stat("/f").unwrap().size, size);
    set_size(&mut d, size - 1_000).unwrap();
    set_size(&mut d, 10 * parts).unwrap();
    assert_eq!(extents_of(&d, ino).len() as u64, parts);
    // Cut to nothing it is one part again.
    set_size(&mut d, 0).unwrap();
    remove_all(&mut d);
    assert_eq!((extents_of(&d, ino).len(), d.chunk(chunk).live_bytes), (0, 0));
    d.check();
}
