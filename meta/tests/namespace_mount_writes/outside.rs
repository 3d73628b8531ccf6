//! Others write to the bucket meanwhile.

use cairn_meta::keys::conflicts::ConflictRow;
use cairn_meta::keys::mount_modes::ConflictRule;
use cairn_meta::namespace::mounting;
use cairn_types::FsError;

use super::mounted;
use super::world::{MOUNT, World};

fn conflict(w: &World) -> ConflictRow {
    let found = mounting::conflicts_after(&w.d.store, MOUNT, 0, 100).unwrap();
    let [(1, row)] = &found[..] else { panic!("{found:?}") };
    row.clone()
}

/// Our change of `p/a` and somebody else's, found by the put or, before it, by a listing.
fn both_change(rule: ConflictRule, listed: bool) -> World {
    let mut w = World::new(rule);
    w.bucket.put("p/a", b"base");
    w.read_all();
    w.write("/m/a", b"ours").unwrap();
    w.bucket.put("p/a", b"theirs");
    if listed {
        w.sync();
    }
    w.converge();
    let row = conflict(&w);
    assert_eq!((row.rule, row.expected_etag.as_str(), row.found_etag.as_str()), (rule, "v1", "v2"));
    assert!(row.kept.is_some());
    w
}

#[test]
fn both_are_kept_and_the_bucket_s_has_the_name() {
    for listed in [false, true] {
        let w = both_change(ConflictRule::KeepBoth, listed);
        assert_eq!((w.text("/m/a").as_str(), w.text("/m/a.conflict-1").as_str()), ("theirs", "ours"));
    }
}

#[test]
fn the_bucket_s_side_wins_and_ours_is_kept_aside() {
    for listed in [false, true] {
        let w = both_change(ConflictRule::Bucket, listed);
        let kept = w.text("/m/.cairn-conflicts/1-a");
        assert_eq!((w.text("/m/a").as_str(), kept.as_str()), ("theirs", "ours"));
    }
}

#[test]
fn our_side_wins_and_the_bucket_s_is_kept_aside() {
    for listed in [false, true] {
        let w = both_change(ConflictRule::Namespace, listed);
        let kept = w.text("/m/.cairn-conflicts/1-a");
        assert_eq!((w.text("/m/a").as_str(), kept.as_str()), ("ours", "theirs"));
    }
}

#[test]
fn a_file_without_changes_takes_the_newer_version_wherever_it_goes() {
    let mut w = mounted(&[("p/a", "old"), ("p/b", "old")]);
    w.bucket.put("p/a", b"new");
    w.sync();
    assert_eq!(w.text("/m/a"), "new");
    w.rename("/m/b", "/m/c").unwrap();
    w.bucket.put("p/b", b"newer");
    w.converge();
    assert_eq!((w.text("/m/c").as_str(), w.bucket.keys()), ("newer", vec!["p/a".into(), "p/c".into()]));
    assert_eq!(w.conflicts(), 0);
}

#[test]
fn an_object_that_is_gone_takes_its_file_along_unless_that_was_changed() {
    let mut w = mounted(&[("p/a", "1"), ("p/b", "2"), ("p/c", "3")]);
    w.bucket.delete(b"p/a");
    w.write("/m/b", b"ours").unwrap();
    w.bucket.delete(b"p/b");
    w.rename("/m/c", "/m/d").unwrap();
    w.bucket.delete(b"p/c");
    w.converge();
    assert_eq!(w.bucket.keys(), ["p/b"]);
    assert_eq!(w.text("/m/b"), "ours");
    assert_eq!(w.stat("/m/d"), Err(FsError::NotFound));
    let row = conflict(&w);
    assert_eq!((row.found_etag.as_str(), row.kept), ("", None));
}

#[test]
fn a_new_object_at_the_name_of_a_new_file_is_a_conflict() {
    for listed in [false, true] {
        let mut w = mounted(&[]);
        w.write("/m/a", b"ours").unwrap();
        w.bucket.put("p/a", b"theirs");
        if listed {
            w.sync();
        }
        w.converge();
        assert_eq!((w.text("/m/a").as_str(), w.text("/m/a.conflict-1").as_str()), ("theirs", "ours"));
        assert_eq!(conflict(&w).expected_etag, "");
    }
}

#[test]
fn an_object_that_is_written_over_a_surplus_one_is_not_deleted() {
    let mut w = mounted(&[("p/a", "1"), ("p/b", "2")]);
    w.unlink("/m/a").unwrap();
    w.bucket.put("p/a", b"new");
    w.rename("/m/b", "/m/c").unwrap();
    w.turn();
    w.intents().iter().for_each(|record| w.execute(record, super::Luck::Good));
    w.bucket.put("p/b", b"new too");
    w.converge();
    assert_eq!(w.bucket.keys(), ["p/a", "p/b", "p/c"]);
    assert_eq!((w.text("/m/a").as_str(), w.text("/m/b").as_str()), ("new", "new too"));
    assert_eq!(w.conflicts(), 0);
}

#[test]
fn an_object_that_changed_after_its_file_left_and_was_changed_stays() {
    let mut w = mounted(&[("p/a", "base")]);
    w.rename("/m/a", "/m/b").unwrap();
    w.append("/m/b", b"+").unwrap();
    w.bucket.put("p/a", b"theirs");
    w.converge();
    assert_eq!(w.text("/m/a"), "theirs");
    assert_eq!(w.text("/m/b"), "\0\0\0\0+", "of the base nothing is left anywhere");
    assert!(conflict(&w).what.contains("4 bytes"), "{:?}", conflict(&w));
}

#[test]
fn an_object_at_the_new_name_of_a_file_is_a_conflict_and_neither_is_lost() {
    let mut w = mounted(&[("p/a", "ours")]);
    w.rename("/m/a", "/m/b").unwrap();
    w.bucket.put("p/b", b"theirs");
    w.converge();
    assert_eq!((w.text("/m/b").as_str(), w.text("/m/b.conflict-1").as_str()), ("theirs", "ours"));
    assert_eq!(w.bucket.keys(), ["p/b", "p/b.conflict-1"]);
}

#[test]
fn a_directory_in_the_bucket_at_the_name_of_a_file_is_seen_beside_it() {
    let mut w = mounted(&[("p/a", "1")]);
    w.bucket.put("p/a/b", b"2");
    w.converge();
    assert_eq!((w.text("/m/a.cairn-object").as_str(), w.text("/m/a/b").as_str()), ("1", "2"));
    assert_eq!(w.bucket.keys(), ["p/a", "p/a/b"]);
}

#[test]
fn a_listing_that_is_told_late_undoes_nothing() {
    let mut w = mounted(&[("p/a", "1"), ("p/b", "2"), ("p/d/e", "3")]);
    let (root, d) = (w.root, w.stat("/m/d").unwrap().ino);
    let late = [w.list(root).unwrap(), w.list(d).unwrap()];
    w.write("/m/a", b"newer").unwrap();
    w.write("/m/c", b"new").unwrap();
    w.mkdir("/m/n").unwrap();
    w.unlink("/m/b").unwrap();
    w.rename("/m/d", "/m/f").unwrap();
    w.settle();
    late.iter().for_each(|listing| w.tell(listing));
    let names: Vec<String> = w.tree().into_keys().collect();
    assert_eq!(names, ["a", "c", "f", "f/e", "n"]);
    assert_eq!((w.text("/m/a").as_str(), w.text("/m/c").as_str()), ("newer", "new"));
    w.converge();
    assert_eq!((w.tree().len(), w.conflicts()), (5, 0));
}

#[test]
fn what_others_write_below_a_directory_that_left_is_seen_when_it_has_left() {
    let mut w = mounted(&[("p/d/a", "1")]);
    w.rename("/m/d", "/m/n").unwrap();
    w.bucket.put("p/d/late", b"2");
    w.converge();
    assert_eq!(w.bucket.keys(), ["p/d/late", "p/n/a"]);
    assert_eq!(w.text("/m/d/late"), "2");
}
