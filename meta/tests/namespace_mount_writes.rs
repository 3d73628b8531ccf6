//! Mounts that are written to: what the bucket becomes, in what order, and what happens when others write there.
//! The bucket, the data nodes and the leader's jobs are small models.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_mount_writes/bucket.rs"]
mod bucket;
#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;
#[path = "namespace_mount_writes/outside.rs"]
mod outside;
#[path = "namespace_mount_writes/random.rs"]
mod random;
#[path = "namespace_mount_writes/rows.rs"]
mod rows;
#[path = "namespace_mount_writes/rules.rs"]
mod rules;
#[path = "namespace_mount_writes/world.rs"]
mod world;

use cairn_meta::keys::mount_modes::ConflictRule;
use cairn_meta::keys::pictures::PieceSource;
use cairn_meta::namespace::mounting;
use cairn_meta::namespace::{Command, Operation};
use cairn_types::{ExtentSource, FsError};
use driver::FIRST;
use world::{Luck, MOUNT, World};

/// A mount with `objects`, all read.
fn mounted(objects: &[(&str, &str)]) -> World {
    let mut world = World::new(ConflictRule::KeepBoth);
    for (key, data) in objects {
        world.bucket.put(key, data.as_bytes());
    }
    world.read_all();
    world
}

#[test]
fn a_file_becomes_an_object_and_then_consists_of_it() {
    let mut w = mounted(&[]);
    let ino = w.write("/m/a", b"hello").unwrap().ino;
    assert_eq!(w.pending(), [ino]);
    w.converge();
    assert_eq!(w.bucket.data("p/a"), Some(&b"hello"[..]));
    let range = cairn_meta::namespace::read::extents(&w.d.store, &driver_target(ino), 0, 100).unwrap();
    let [extent] = &range.extents[..] else { panic!("{:?}", range.extents) };
    assert!(matches!(extent.source, ExtentSource::Object { .. }), "{extent:?}");
    assert!(w.chunks.is_empty(), "its chunk is collected");
    let metadata = &w.bucket.objects[&b"p/a"[..]].metadata;
    assert_eq!((metadata["mode"].as_str(), metadata["uid"].as_str()), ("33188", "0"));
    assert_eq!(w.conflicts(), 0);
}

fn driver_target(ino: cairn_types::InodeId) -> cairn_meta::namespace::Target {
    cairn_meta::namespace::Target::ino(ino)
}

#[test]
fn an_append_names_the_object_for_what_it_holds_and_sends_the_rest_alone() {
    let mut w = mounted(&[("p/log", "0123456789")]);
    w.append("/m/log", b"abc").unwrap();
    w.turn();
    let [record] = &w.intents()[..] else { panic!("one put") };
    let picture = mounting::picture(&w.d.store, record).unwrap().unwrap();
    let lengths: Vec<u64> = picture.pieces.iter().map(|piece| piece.length).collect();
    assert_eq!((lengths, picture.length), (vec![10, 3], 13));
    assert!(picture.like.is_some(), "what the object is like stays");
    w.converge();
    assert_eq!(w.bucket.data("p/log"), Some(&b"0123456789abc"[..]));
}

#[test]
fn a_file_that_grows_during_each_put_sends_only_what_was_added() {
    let mut w = mounted(&[]);
    w.write("/m/log", b"first.").unwrap();
    let mut whole = "first.".to_owned();
    for n in 0..5 {
        w.d.now += 1_000_000_000_000;
        w.turn();
        let [record] = &w.intents()[..] else { panic!("one put: {}", w.rest()) };
        let record = record.clone();
        let picture = mounting::picture(&w.d.store, &record).unwrap().unwrap();
        let sent: u64 = (picture.pieces.iter())
            .filter(|piece| !matches!(piece.source, PieceSource::Object { .. }))
            .map(|piece| piece.length)
            .sum();
        assert_eq!(sent, if n == 0 { 6 } else { 4 }, "{n}: {picture:?}");
        let more = format!("<{n}>.");
        w.append("/m/log", more.as_bytes()).unwrap();
        w.execute(&record, Luck::Good);
        assert_eq!(w.bucket.data("p/log"), Some(whole.as_bytes()));
        whole.push_str(&more);
        assert_eq!(w.text("/m/log"), whole);
        w.d.check();
        rows::check(&w.d.store);
    }
    w.converge();
    assert_eq!(w.bucket.data("p/log"), Some(whole.as_bytes()));
    assert_eq!(w.conflicts(), 0);
}

#[test]
fn what_is_changed_during_a_put_is_put_again_and_bytes_of_the_picture_live_until_it_ends() {
    let mut w = mounted(&[("p/f", "0123456789")]);
    w.append("/m/f", b"AAAA").unwrap();
    w.turn();
    let [record] = &w.intents()[..] else { panic!("one put") };
    let record = record.clone();
    w.write_at("/m/f", 8, b"zzzz").unwrap();
    w.truncate("/m/f", 12).unwrap();
    w.collect();
    // The bytes of "AAAA" are named by nothing but the picture.
    w.execute(&record, Luck::Good);
    assert_eq!(w.bucket.data("p/f"), Some(&b"0123456789AAAA"[..]));
    assert_eq!(w.text("/m/f"), "01234567zzzz");
    w.d.check();
    rows::check(&w.d.store);
    w.converge();
    assert_eq!(w.bucket.data("p/f"), Some(&b"01234567zzzz"[..]));
    assert!(w.chunks.is_empty());
}

#[test]
fn a_lost_answer_is_found_again() {
    let mut w = mounted(&[("p/f", "old")]);
    w.write("/m/f", b"new").unwrap();
    w.turn();
    let record = w.intents()[0].clone();
    w.execute(&record, Luck::AnswerLost);
    w.write("/m/f", b"newer").unwrap();
    w.converge();
    assert_eq!(w.bucket.data("p/f"), Some(&b"newer"[..]));
    assert_eq!(w.conflicts(), 0);
}

#[test]
fn a_rename_copies_and_deletes_only_then() {
    let mut w = mounted(&[("p/a", "bytes")]);
    w.rename("/m/a", "/m/b").unwrap();
    assert_eq!(w.text("/m/b"), "bytes");
    w.turn();
    let [record] = &w.intents()[..] else { panic!("{}", w.rest()) };
    let record = record.clone();
    assert_eq!(w.bucket.keys(), ["p/a"]);
    w.execute(&record, Luck::Good);
    assert_eq!(w.bucket.keys(), ["p/a", "p/b"]);
    assert_eq!(w.text("/m/b"), "bytes");
    w.converge();
    assert_eq!(w.bucket.keys(), ["p/b"]);
}

#[test]
fn a_rename_back_again_is_nothing() {
    let mut w = mounted(&[("p/a", "bytes")]);
    let before = w.bucket.objects.clone();
    w.rename("/m/a", "/m/b").unwrap();
    w.rename("/m/b", "/m/a").unwrap();
    w.converge();
    assert_eq!(w.bucket.objects, before);
}

#[test]
fn chains_of_renames_collapse() {
    let mut w = mounted(&[("p/a", "1"), ("p/b", "2"), ("p/c", "3")]);
    w.rename("/m/c", "/m/d").unwrap();
    w.rename("/m/b", "/m/c").unwrap();
    w.rename("/m/a", "/m/b").unwrap();
    w.converge();
    let data = |key| w.bucket.data(key).map(<[u8]>::to_vec);
    assert_eq!(
        (data("p/b"), data("p/c"), data("p/d")),
        (Some(b"1".to_vec()), Some(b"2".to_vec()), Some(b"3".to_vec()))
    );
    assert_eq!(w.bucket.objects.len(), 3);
    assert_eq!(w.conflicts(), 0);
}

#[test]
fn swaps_go_through_a_temporary_key_that_nobody_sees() {
    let mut w = mounted(&[("p/a", "1"), ("p/b", "2"), ("p/c", "3")]);
    w.rename_as("/m/a", "/m/b", true).unwrap();
    w.rename_as("/m/b", "/m/c", true).unwrap();
    w.converge();
    assert_eq!((w.text("/m/a").as_str(), w.text("/m/b").as_str(), w.text("/m/c").as_str()), ("2", "3", "1"));
    assert_eq!(w.bucket.keys(), ["p/a", "p/b", "p/c"]);
    assert_eq!(w.conflicts(), 0);
}

#[test]
fn a_name_that_is_taken_over_waits_for_the_bytes_that_are_there() {
    let mut w = mounted(&[("p/a", "old")]);
    w.rename("/m/a", "/m/b").unwrap();
    let ino = w.write("/m/a", b"new").unwrap().ino;
    let put = Command::CreatePut { mount: MOUNT, ino, assignee: FIRST };
    let answer = w.d.ok(put.clone());
    assert_eq!((answer.intent, answer.resume_after), (None, Some(Vec::new())), "b's bytes are there");
    w.turn();
    assert_eq!(w.d.propose(put), Err(FsError::KeyBusy), "b's intent reads them");
    w.converge();
    assert_eq!((w.bucket.data("p/a"), w.bucket.data("p/b")), (Some(&b"new"[..]), Some(&b"old"[..])));
    assert_eq!(w.conflicts(), 0);
}

#[test]
fn a_file_over_another_replaces_its_object() {
    let mut w = mounted(&[("p/a", "1"), ("p/b", "2")]);
    w.rename("/m/a", "/m/b").unwrap();
    w.converge();
    assert_eq!(w.bucket.keys(), ["p/b"]);
    assert_eq!(w.text("/m/b"), "1");
}

#[test]
fn a_removal_during_a_put_leaves_nothing() {
    let mut w = mounted(&[]);
    w.write("/m/a", b"bytes").unwrap();
    w.turn();
    let record = w.intents()[0].clone();
    w.unlink("/m/a").unwrap();
    w.collect();
    w.d.check();
    w.execute(&record, Luck::Good);
    w.converge();
    assert_eq!(w.bucket.keys(), Vec::<String>::new());
    assert!(w.chunks.is_empty(), "what was kept for it is collected");
}

#[test]
fn a_rename_during_a_put_goes_on_from_where_the_bytes_are_then() {
    let mut w = mounted(&[]);
    w.write("/m/a", b"bytes").unwrap();
    w.turn();
    let record = w.intents()[0].clone();
    w.rename("/m/a", "/m/b").unwrap();
    w.execute(&record, Luck::Good);
    assert_eq!(w.bucket.keys(), ["p/a"]);
    w.converge();
    assert_eq!(w.bucket.keys(), ["p/b"]);
}

#[test]
fn a_directory_moves_with_all_below_it() {
    let mut w = mounted(&[("p/d/a", "1"), ("p/d/e/b", "2"), ("p/d/e/c", "3"), ("p/x", "4")]);
    w.rename("/m/d", "/m/n").unwrap();
    assert_eq!(w.text("/m/n/e/b"), "2");
    w.sync();
    assert!(w.stat("/m/d").is_err(), "it does not come back");
    w.converge();
    assert_eq!(w.bucket.keys(), ["p/n/a", "p/n/e/b", "p/n/e/c", "p/x"]);
    assert_eq!(w.conflicts(), 0);
}

#[test]
fn a_directory_that_was_never_read_moves_too_also_where_another_takes_its_name() {
    let mut w = World::new(ConflictRule::KeepBoth);
    for (key, data) in [("p/d/a", "1"), ("p/d/e/b", "2")] {
        w.bucket.put(key, data.as_bytes());
    }
    w.import(w.root);
    w.rename("/m/d", "/m/n").unwrap();
    w.mkdir("/m/d").unwrap();
    w.write("/m/d/a", b"new").unwrap();
    w.sync();
    w.converge();
    assert_eq!(w.bucket.keys(), ["p/d/a", "p/n/a", "p/n/e/b"]);
    assert_eq!((w.text("/m/d/a").as_str(), w.text("/m/n/a").as_str()), ("new", "1"));
    assert_eq!(w.conflicts(), 0);
}

#[test]
fn directories_that_are_swapped_swap_what_is_below_them() {
    let mut w = mounted(&[("p/d/a", "1"), ("p/d/b", "2"), ("p/e/a", "3"), ("p/e/f/a", "4")]);
    w.rename_as("/m/d", "/m/e", true).unwrap();
    w.converge();
    assert_eq!(w.bucket.keys(), ["p/d/a", "p/d/f/a", "p/e/a", "p/e/b"]);
    assert_eq!((w.text("/m/d/a").as_str(), w.text("/m/e/a").as_str()), ("3", "1"));
    assert_eq!(w.conflicts(), 0);
}

#[test]
fn empty_directories_have_markers_and_others_need_none() {
    let mut w = mounted(&[]);
    w.mkdir("/m/d").unwrap();
    w.mkdir("/m/e").unwrap();
    w.write("/m/e/a", b"1").unwrap();
    w.converge();
    assert_eq!(w.bucket.keys(), ["p/d/", "p/e/a"]);
    w.unlink("/m/e/a").unwrap();
    w.rename("/m/d", "/m/n").unwrap();
    w.converge();
    assert_eq!(w.bucket.keys(), ["p/e/", "p/n/"]);
    w.rmdir("/m/n").unwrap();
    w.rmdir("/m/e").unwrap();
    w.converge();
    assert_eq!(w.bucket.keys(), Vec::<String>::new());
}

#[test]
fn a_marker_that_somebody_else_made_goes_with_its_directory() {
    let mut w = mounted(&[("p/d/", ""), ("p/e/", "")]);
    w.rmdir("/m/d").unwrap();
    w.rename("/m/e", "/m/n").unwrap();
    w.converge();
    assert_eq!(w.bucket.keys(), ["p/n/"]);
    assert_eq!(w.stat("/m/d"), Err(FsError::NotFound));
}

#[test]
fn attributes_go_to_the_object_s_metadata_and_sparse_files_are_zeros() {
    let mut w = mounted(&[("p/a", "1")]);
    w.chmod("/m/a", 0o600).unwrap();
    w.write("/m/s", b"x").unwrap();
    w.truncate("/m/s", 4).unwrap();
    w.converge();
    assert_eq!(w.bucket.objects[&b"p/a"[..]].metadata["mode"], (0o100_600).to_string());
    assert_eq!(w.bucket.data("p/s"), Some(&b"x\0\0\0"[..]));
    assert_eq!(w.text("/m/a"), "1");
}

#[test]
fn an_object_that_a_directory_hides_stays_where_it_is() {
    let mut w = mounted(&[("p/a", "1"), ("p/a/b", "2")]);
    assert_eq!(w.text("/m/a.cairn-object"), "1");
    w.append("/m/a.cairn-object", b"+").unwrap();
    w.converge();
    assert_eq!(w.bucket.keys(), ["p/a", "p/a/b"]);
    assert_eq!(w.bucket.data("p/a"), Some(&b"1+"[..]));
    w.rename("/m/a.cairn-object", "/m/c").unwrap();
    w.converge();
    assert_eq!(w.bucket.keys(), ["p/a/b", "p/c"]);
}

#[test]
fn a_failure_for_good_waits_for_a_change_or_for_being_asked() {
    let mut w = mounted(&[]);
    let ino = w.write("/m/a", b"1").unwrap().ino;
    w.turn();
    let intent = w.intents()[0].intent;
    w.d.ok(Command::FailIntent { intent, permanent: false, message: "503".into() });
    w.d.ok(Command::FailIntent { intent, permanent: true, message: "AccessDenied".into() });
    let figures = mounting::figures(&w.d.store, MOUNT).unwrap();
    assert_eq!((figures.counts.failing, figures.counts.last_error.as_str()), (1, "AccessDenied"));
    assert!(figures.oldest_pending.is_some());
    w.turn();
    assert!(w.intents().is_empty(), "the leader leaves it alone");
    w.d.check();
    rows::check(&w.d.store);
    w.d.ok(Command::CreatePut { mount: MOUNT, ino, assignee: FIRST });
    w.converge();
    assert_eq!(mounting::figures(&w.d.store, MOUNT).unwrap().counts.failing, 0);
    assert_eq!(w.bucket.keys(), ["p/a"]);
}

#[test]
fn a_growing_file_is_put_up_to_its_recorded_length() {
    let mut w = mounted(&[]);
    let ino = w.write("/m/log", b"one").unwrap().ino;
    let chunk = w.d.open_tail(ino, 0, 1).unwrap().chunk.unwrap().chunk;
    w.settle();
    assert_eq!(w.bucket.data("p/log"), Some(&b"one"[..]));
    w.chunks.insert(chunk, b"two".to_vec());
    w.d.close(chunk, 3, Vec::new());
    assert_eq!(w.pending(), [ino]);
    w.converge();
    assert_eq!(w.bucket.data("p/log"), Some(&b"onetwo"[..]));
}

#[test]
fn a_file_in_many_pieces_takes_no_change_while_it_is_written_and_grows_all_the_same() {
    let base = "0".repeat(2100);
    let mut w = mounted(&[("p/f", &base)]);
    for n in 0..1010 {
        w.write_at("/m/f", 2 * n, b"1").unwrap();
    }
    let ino = w.stat("/m/f").unwrap().ino;
    w.turn();
    let record = w.intents()[0].clone();
    let commit = Operation::SetAttr {
        target: driver_target(ino),
        mode: None,
        uid: None,
        gid: None,
        size: Some(5),
        mtime: None,
        atime: None,
        expected_version: None,
    };
    assert_eq!(w.d.ask(commit), Err(FsError::Importing { intent: record.intent }));
    let chunk = w.d.open_tail(ino, 0, 1).unwrap().chunk.unwrap().chunk;
    w.chunks.insert(chunk, b"tail".to_vec());
    w.d.close(chunk, 4, Vec::new());
    w.execute(&record, Luck::Good);
    let wanted = "10".repeat(1010) + &"0".repeat(80);
    assert_eq!(w.bucket.data("p/f"), Some(wanted.as_bytes()));
    assert_eq!(w.text("/m/f"), wanted.clone() + "tail");
    w.converge();
    assert_eq!(w.bucket.data("p/f"), Some((wanted + "tail").as_bytes()));
    // What was cut off goes in steps.
    (0..20).for_each(|_| w.collect());
    assert!(w.chunks.is_empty());
}

#[test]
fn all_that_is_pending_is_so_in_any_store_and_after_a_replay() {
    let mut w = mounted(&[("p/a", "1"), ("p/d/b", "2")]);
    w.rename("/m/d", "/m/e").unwrap();
    w.write("/m/a", b"new").unwrap();
    w.turn();
    w.write("/m/a", b"newer").unwrap();
    w.unlink("/m/e/b").unwrap();
    w.turn();
    assert_eq!(driver::replayed_in_rocks(&w.d.log), driver::every_row(&w.d.store));
}

#[test]
fn what_is_not_read_yet_is_read_before_names_are_made_there() {
    let mut w = World::new(ConflictRule::KeepBoth);
    w.bucket.put("p/a", b"1");
    let create = driver::create("/m/a", Vec::new());
    assert!(matches!(w.d.ask(create.clone()), Err(FsError::Importing { .. })));
    assert_eq!(w.ask(create).unwrap().inode.unwrap().size, 1);
    assert!(matches!(
        w.d.ask(Operation::Rmdir { target: cairn_meta::namespace::Target::path("/m") }),
        Err(FsError::IsMountRoot)
    ));
}
