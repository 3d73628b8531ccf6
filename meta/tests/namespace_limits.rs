//! Limits: what is one too many is refused and changes nothing.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;

use cairn_meta::namespace::{Operation, Target};
use cairn_types::FsError;
use cairn_types::limits::{LINKS_MAX, ROWS_PER_ENTRY_MAX};
use driver::{Driver, extent};

fn link(d: &mut Driver, to: &str) -> Result<u32, FsError> {
    let link = Operation::Link { from: Target::path("/file"), to: Target::path(to) };
    d.ask(link).map(|answer| answer.inode.unwrap().nlink)
}

#[test]
fn a_file_has_so_many_names_and_no_more() {
    let mut d = Driver::new();
    d.file("/file");
    for n in 2..=LINKS_MAX {
        assert_eq!(link(&mut d, &format!("/link-{n}")), Ok(n));
    }
    assert_eq!(link(&mut d, "/one-too-many"), Err(FsError::TooManyLinks));
    assert_eq!(d.stat("/one-too-many"), Err(FsError::NotFound));
    d.unlink("/link-2");
    assert_eq!(link(&mut d, "/again"), Ok(LINKS_MAX));
    d.check();
}

#[test]
fn what_touches_more_rows_than_an_entry_may_is_refused_whole() {
    let mut d = Driver::new();
    let chunk = d.shared_chunk();
    let ino = d.file("/file");
    // Every other byte, in commits of a thousand: more extents than one entry may remove.
    let extents = ROWS_PER_ENTRY_MAX as u64 + 1;
    let all: Vec<_> = (0..extents).map(|n| extent(2 * n, 1, chunk, n)).collect();
    for some in all.chunks(1_000) {
        d.done(Operation::Commit { ino, extents: some.to_vec(), expected_length: None });
    }
    let size = d.stat("/file").unwrap().size;
    let whole = vec![extent(0, size, chunk, 100_000)];
    let over = d.ask(Operation::Commit { ino, extents: whole, expected_length: None });
    assert_eq!(over.map(drop), Err(FsError::TooLarge));
    assert_eq!(d.stat("/file").unwrap().size, size);
    // In smaller steps it can be done.
    for (n, from) in (0..size).step_by(2_000).enumerate() {
        let length = 2_000.min(size - from);
        let part = vec![extent(from, length, chunk, 200_000 + 2_000 * n as u64)];
        d.done(Operation::Commit { ino, extents: part, expected_length: None });
    }
    d.check();
}
