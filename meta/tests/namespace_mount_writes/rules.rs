//! What is refused, and what a mount's mode says.

use cairn_meta::keys::mount_modes::{BucketAccess, ConflictRule, EndpointAbilities};
use cairn_meta::keys::mounts::MountSource;
use cairn_meta::namespace::{Command, Operation, Target, XattrMode, jobs, mounting};
use cairn_types::{FsError, MountId};

use super::mounted;
use super::world::{MOUNT, World, able, rules};

fn target(path: &str) -> Target {
    Target::path(path)
}

#[test]
fn what_no_object_can_say_is_refused() {
    let mut w = mounted(&[("p/a", "1"), ("p/d/b", "2")]);
    w.d.mkdir("/native");
    w.d.file("/native/f");
    let owner = (0, 0);
    let refused = [
        Operation::Symlink { target: target("/m/l"), to: b"a".to_vec(), uid: 0, gid: 0 },
        Operation::Link { from: target("/m/a"), to: target("/m/l") },
        Operation::Mknod {
            target: target("/m/p"),
            kind: cairn_types::FileKind::Fifo,
            mode: 0o644,
            uid: owner.0,
            gid: owner.1,
        },
        Operation::SetXattr {
            target: target("/m/a"),
            name: b"user.n".to_vec(),
            value: b"v".to_vec(),
            mode: XattrMode::Any,
        },
        Operation::RemoveTree { target: target("/m/d") },
        Operation::Clone {
            from: target("/m/a"),
            to: target("/m/c"),
            uid: 0,
            gid: 0,
            replace: false,
            recursive: false,
        },
        Operation::CopyRange {
            from: target("/m/a"),
            from_offset: 0,
            to: target("/m/d/b"),
            to_offset: 0,
            length: None,
        },
        Operation::Concat { target: target("/m/a"), from: vec![target("/m/d/b")] },
    ];
    for operation in refused {
        assert_eq!(w.ask(operation.clone()), Err(FsError::NotSupported), "{operation:?}");
    }
    assert_eq!(w.rename("/m/a", "/native/a"), Err(FsError::CrossMount));
    assert_eq!(w.rename("/native/f", "/m/f"), Err(FsError::CrossMount));
    w.converge();
}

#[test]
fn names_that_no_key_can_say_are_refused() {
    let mut w = mounted(&[("p/a", "1")]);
    let long = |n: usize| "x".repeat(n);
    let mut path = "/m".to_owned();
    for _ in 0..4 {
        path = format!("{path}/{}", long(250));
        w.mkdir(&path).unwrap();
    }
    // "p/" and four times 251 bytes: 1,006.
    assert!(w.write(&format!("{path}/{}", long(18)), b"1").is_ok());
    assert_eq!(w.write(&format!("{path}/{}", long(19)), b"1"), Err(FsError::KeyTooLong));
    assert_eq!(w.mkdir(&format!("{path}/{}", "y".repeat(18))), Err(FsError::KeyTooLong));
    let odd = Target { path: b"/m/\xff".to_vec(), ..Target::default() };
    let create = Operation::Mkdir { target: odd, mode: 0o755, uid: 0, gid: 0, parents: false };
    assert_eq!(w.ask(create), Err(FsError::KeyNotText));
    assert_eq!(w.mkdir("/m/.cairn-temporary"), Err(FsError::ReservedName));
    assert_eq!(w.write("/m/b.cairn-object", b""), Err(FsError::ReservedName));
    assert_eq!(w.rename("/m/a", "/m/a.cairn-object"), Err(FsError::ReservedName));
    // Below a directory that moves, a key may become too long without anybody asking for it.
    let deep = "/m/".to_owned() + &long(250);
    w.mkdir("/m/y").unwrap();
    w.rename(&deep, &format!("/m/y/{}", long(255))).unwrap();
    for _ in 0..50 {
        w.turn();
        for record in w.intents() {
            w.execute(&record, super::Luck::Good);
        }
    }
    let counts = mounting::figures(&w.d.store, MOUNT).unwrap().counts;
    assert_eq!((counts.failing, counts.pending), (1, 1), "{}", w.rest());
    assert!(counts.last_error.contains("1024"), "{}", counts.last_error);
    w.d.check();
}

#[test]
fn a_mount_is_written_to_when_its_endpoint_keeps_conditions() {
    let mut w = World::new(ConflictRule::KeepBoth);
    w.probe(EndpointAbilities { put_if_match: false, ..able() });
    w.import(w.root);
    let refused = Err(FsError::ReadOnlyMount { mount: MOUNT });
    assert_eq!(w.write("/m/a", b"1").map(|_| ()), refused);
    assert!(mounting::mode(&w.d.store, MOUNT).unwrap().refused.contains("sole-writer"));
    let set = |w: &mut World, rules| {
        let access = BucketAccess { profile: "p".into(), ..BucketAccess::default() };
        w.done(Operation::MountSet { target: target("/m"), refresh_ms: 5_000, access, rules });
    };
    let sole = cairn_meta::keys::mount_modes::MountRules { sole_writer: true, ..rules(ConflictRule::Bucket) };
    set(&mut w, sole);
    assert_eq!(w.write("/m/a", b"1").map(|_| ()), refused, "it was not probed since");
    w.probe(EndpointAbilities { put_if_match: false, ..able() });
    w.write("/m/a", b"1").unwrap();
    w.probe(EndpointAbilities { writable: false, ..able() });
    assert_eq!(w.write("/m/b", b"1").map(|_| ()), refused);
    assert_eq!(
        w.d.propose(Command::CreatePut { mount: MOUNT, ino: w.root, assignee: super::FIRST }),
        refused.map(|()| Default::default())
    );
    w.probe(able());
    w.converge();
    let mounts = cairn_meta::namespace::read::mounts(&w.d.store).unwrap();
    assert_eq!(mounts[0].source.refresh_ms, 5_000);
}

#[test]
fn overlapping_prefixes_of_one_bucket_are_refused() {
    let mut w = World::new(ConflictRule::KeepBoth);
    let mut add = |path: &str, bucket: &str, prefix: &str| {
        let source = MountSource { bucket: bucket.into(), prefix: prefix.into(), ..MountSource::default() };
        let (access, rules) = (BucketAccess::default(), rules(ConflictRule::KeepBoth));
        w.ask(Operation::MountAddAs { target: target(path), source, access, rules })
            .map(|answer| answer.mount)
    };
    for prefix in ["", "p/", "p/below/"] {
        assert_eq!(add("/n", "b", prefix), Err(FsError::MountOverlap { mount: MOUNT }), "{prefix}");
    }
    assert_eq!(add("/n", "b", "q/"), Ok(Some(MountId(2))));
    assert_eq!(add("/o", "other", "p/"), Ok(Some(MountId(3))));
}

#[test]
fn a_mount_with_changes_is_removed_only_when_they_are_abandoned() {
    let mut w = mounted(&[("p/a", "1"), ("p/b", "2"), ("p/d/c", "3")]);
    w.write("/m/a", b"new").unwrap();
    w.unlink("/m/b").unwrap();
    w.rename("/m/d", "/m/e").unwrap();
    w.turn();
    let remove = |abandon| Operation::MountRemoveWith { target: target("/m"), abandon };
    let pending = mounting::all_pending(&w.d.store).unwrap();
    assert!(pending >= 3);
    assert_eq!(w.ask(remove(false)), Err(FsError::MountPending { pending }));
    assert_eq!(
        w.ask(Operation::MountRemove { target: target("/m") }),
        Err(FsError::MountPending { pending })
    );
    let record = w.intents()[0].clone();
    w.done(remove(true));
    let late = Command::ObjectGone { intent: record.intent };
    assert_eq!(w.d.propose(late), Err(FsError::NotFound));
    for _ in 0..20 {
        w.collect();
    }
    w.d.check();
    let left = |table| {
        cairn_meta::store::Rows::scan(&w.d.store, table, &cairn_meta::store::KeyRange::default(), 9)
            .unwrap()
            .len()
    };
    use cairn_meta::store::Table as T;
    for table in [
        T::MountModes,
        T::MountCounts,
        T::Homes,
        T::Pending,
        T::PendingSince,
        T::Surplus,
        T::Moves,
        T::Claims,
        T::Readings,
        T::Shields,
        T::Pictures,
        T::Keeps,
        T::Conflicts,
        T::Keys,
        T::Imports,
        T::Intents,
        T::Detached,
    ] {
        assert_eq!(left(table), 0, "{table:?}");
    }
    assert!(jobs::orphans(&w.d.store, None, 1).unwrap().is_empty());
    assert_eq!(w.bucket.keys(), ["p/a", "p/b", "p/d/c"], "the bucket is as it was");
}

#[test]
fn a_conflict_is_dismissed_once() {
    let mut w = mounted(&[]);
    w.write("/m/a", b"ours").unwrap();
    w.bucket.put("p/a", b"theirs");
    w.converge();
    let dismiss = Operation::ConflictDismiss { mount: MOUNT, conflict: 1 };
    w.done(dismiss.clone());
    assert_eq!(w.ask(dismiss), Err(FsError::NotFound));
    assert_eq!((w.conflicts(), mounting::figures(&w.d.store, MOUNT).unwrap().counts.conflicts), (0, 0));
    assert_eq!(w.text("/m/a.conflict-1"), "ours");
}
