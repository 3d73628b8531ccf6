//! Who may do what, in sessions that said who they are: POSIX's rules case by case, for every class of
//! caller and every bit.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_permissions/acls.rs"]
mod acls;
#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;

use cairn_meta::namespace::{Command, NamespaceError, Operation, Target, TimeChange, XattrMode, read};
use cairn_meta::store::Rows;
use cairn_types::{Credentials, FileKind, FsError, Inode, InodeId, SessionId, Timestamp};
use driver::{Driver, create, extent, placement};

const OWNER: u32 = 11;
const GROUP: u32 = 21;

fn who(uid: u32, gid: u32, groups: &[u32]) -> Credentials {
    Credentials { uid, gid, groups: groups.to_vec() }
}

/// The owner, two members of the group, and somebody else, with where their bits are in a mode.
fn classes() -> [(Credentials, u32); 4] {
    [
        (who(OWNER, 99, &[GROUP]), 6),
        (who(12, GROUP, &[]), 3),
        (who(13, 99, &[98, GROUP]), 3),
        (who(14, 99, &[98]), 0),
    ]
}

/// A mode with these bits for one class, and for the others all that it has not.
fn mode_for(shift: u32, bits: u32) -> u32 {
    [6, 3, 0].into_iter().map(|at| if at == shift { bits << at } else { (7 - bits) << at }).sum()
}

/// A state with sessions of several callers; the driver's own is not checked.
struct World {
    d: Driver,
}

impl World {
    fn new() -> Self {
        Self { d: Driver::new() }
    }

    /// Asks in a session of its own.
    fn ask(&mut self, who: &Credentials, operation: Operation) -> Result<Option<Inode>, FsError> {
        let command = Command::OpenSessionAs { client: "c".into(), credentials: who.clone() };
        let session = self.d.ok(command).session.unwrap();
        let own = (self.d.session, self.d.sequence);
        (self.d.session, self.d.sequence) = (session, 0);
        let reply = self.d.ask(operation);
        (self.d.session, self.d.sequence) = own;
        self.d.ok(Command::CloseSession { session });
        reply.map(|answer| answer.inode)
    }

    fn set(&mut self, path: &str, mode: u32, uid: u32, gid: u32) -> InodeId {
        let set = Operation::SetAttr {
            target: Target::path(path).no_follow(),
            mode: Some(mode),
            uid: Some(uid),
            gid: Some(gid),
            size: None,
            mtime: None,
            atime: None,
            expected_version: None,
        };
        self.d.done(set).inode.unwrap().ino
    }

    fn file(&mut self, path: &str, mode: u32, uid: u32, gid: u32) -> InodeId {
        self.d.file(path);
        self.set(path, mode, uid, gid)
    }

    fn dir(&mut self, path: &str, mode: u32, uid: u32, gid: u32) -> InodeId {
        self.d.mkdir(path);
        self.set(path, mode, uid, gid)
    }
}

fn refused<T>(outcome: Result<T, NamespaceError>) -> Result<T, FsError> {
    outcome.map_err(|error| match error {
        NamespaceError::Refused(error) => error,
        NamespaceError::Fault(fault) => panic!("{fault}"),
    })
}

fn stat(rows: &dyn Rows, who: &Credentials, target: &Target) -> Result<Inode, FsError> {
    refused(read::stat_as(rows, Some(who), target)).map(|stat| stat.inode)
}

fn unlink(path: &str) -> Operation {
    Operation::Unlink { target: Target::path(path) }
}

fn rename(from: &str, to: &str) -> Operation {
    Operation::Rename { from: Target::path(from), to: Target::path(to), no_replace: false, exchange: false }
}

fn attrs(path: &str, change: impl Fn(&mut Attrs)) -> Operation {
    let mut a = Attrs::default();
    change(&mut a);
    let Attrs { mode, uid, gid, size, mtime, atime } = a;
    let target = Target::path(path);
    Operation::SetAttrNow { target, mode, uid, gid, size, mtime, atime, expected_version: None }
}

#[derive(Default)]
struct Attrs {
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    size: Option<u64>,
    mtime: Option<TimeChange>,
    atime: Option<TimeChange>,
}

/// Denied, unless all of `needed` is in `bits`.
fn allowed(bits: u32, needed: u32) -> Result<(), FsError> {
    if bits & needed == needed { Ok(()) } else { Err(FsError::PermissionDenied) }
}

#[test]
fn each_class_has_its_own_bits_of_a_directory_and_no_others() {
    for (caller, shift) in classes() {
        for bits in 0..8 {
            let mut w = World::new();
            w.dir("/d", mode_for(shift, bits), OWNER, GROUP);
            w.dir("/e", 0o777, OWNER, GROUP);
            w.file("/d/f", 0o666, 50, 50);
            w.file("/d/g", 0o666, 50, 50);
            w.file("/e/f", 0o666, 50, 50);
            w.dir("/d/sub", 0o777, 50, 50);
            let told = format!("{caller:?} with {bits:o}");
            let rows = &w.d.store;
            assert_eq!(stat(rows, &caller, &Target::path("/d/f")).map(drop), allowed(bits, 1), "{told}");
            let dir = read::resolve(rows, &Target::path("/d")).unwrap();
            assert_eq!(refused(read::may_list(rows, Some(&caller), &dir)), allowed(bits, 5), "{told}");
            let made = |path: &str| create(path, Vec::new());
            let symlink =
                Operation::Symlink { target: Target::path("/d/l"), to: b"x".to_vec(), uid: 0, gid: 0 };
            let fifo = Operation::Mknod {
                target: Target::path("/d/p"),
                kind: FileKind::Fifo,
                mode: 0o600,
                uid: 0,
                gid: 0,
            };
            let link = Operation::Link { from: Target::path("/e/f"), to: Target::path("/d/h") };
            let mkdir = Operation::Mkdir {
                target: Target::path("/d/m"),
                mode: 0o700,
                uid: 0,
                gid: 0,
                parents: false,
            };
            let rmdir = Operation::Rmdir { target: Target::path("/d/sub") };
            let changes = [
                made("/d/new"),
                symlink,
                fifo,
                link,
                mkdir,
                rename("/d/f", "/e/moved"),
                rename("/e/moved", "/d/f"),
                unlink("/d/g"),
                rmdir,
            ];
            for change in changes {
                let shown = format!("{told}: {change:?}");
                let outcome = w.ask(&caller, change).map(drop);
                let missing = Err(FsError::NotFound);
                // What was not moved out is not there to be moved back.
                let expected = allowed(bits, 3);
                assert!(
                    outcome == expected || (expected.is_err() && outcome == missing),
                    "{shown}: {outcome:?}"
                );
            }
            w.d.check();
        }
    }
}

#[test]
fn each_class_has_its_own_bits_of_a_file_and_no_others() {
    for (caller, shift) in classes() {
        for bits in 0..8 {
            let mut w = World::new();
            let ino = w.file("/f", mode_for(shift, bits), OWNER, GROUP);
            let told = format!("{caller:?} with {bits:o}");
            let by_path = Target::path("/f");
            let read = |w: &World, target: &Target| {
                refused(read::extents_as(&w.d.store, Some(&caller), target, (0, 1))).map(drop)
            };
            assert_eq!(read(&w, &by_path), allowed(bits, 4), "{told}");
            let own = caller.uid == OWNER;
            let by_number = if own { Ok(()) } else { allowed(bits, 4) };
            assert_eq!(read(&w, &Target::ino(ino)), by_number, "{told}: as through an open handle");
            let write = allowed(bits, 2);
            let cut = attrs("/f", |a| a.size = Some(0));
            assert_eq!(w.ask(&caller, cut).map(drop), write, "{told}: truncate");
            let set = Operation::SetXattr {
                target: by_path.clone(),
                name: b"user.a".to_vec(),
                value: b"1".to_vec(),
                mode: XattrMode::Any,
            };
            assert_eq!(w.ask(&caller, set).map(drop), write, "{told}: setxattr");
            let commit = Operation::Commit { ino, extents: Vec::new(), expected_length: None };
            let written = if own { Ok(()) } else { write };
            assert_eq!(w.ask(&caller, commit).map(drop), written, "{told}: a write through a handle");
            let exclusive = w.ask(&caller, Operation::OpenExclusive { ino }).map(drop);
            assert_eq!(exclusive, written, "{told}: fencing");
        }
    }
}

#[test]
fn user_0_may_do_everything_and_a_session_without_credentials_too() {
    let mut w = World::new();
    let root = who(0, 0, &[]);
    w.dir("/d", 0, OWNER, GROUP);
    w.file("/d/f", 0, OWNER, GROUP);
    assert!(stat(&w.d.store, &root, &Target::path("/d/f")).is_ok());
    w.ask(&root, attrs("/d/f", |a| (a.uid, a.mode) = (Some(5), Some(0o4755)))).unwrap();
    let cut = w.ask(&root, attrs("/d/f", |a| a.size = Some(9))).unwrap().unwrap();
    assert_eq!(cut.mode, 0o4755, "whoever may do everything keeps the set-ID bits on a write");
    w.ask(&root, unlink("/d/f")).unwrap();
    w.d.file("/d/g");
    w.d.unlink("/d/g");
    assert_eq!(refused(read::caller(&w.d.store, w.d.session)), Ok(None));
    assert_eq!(refused(read::caller(&w.d.store, SessionId(0))), Ok(None));
    assert_eq!(refused(read::caller(&w.d.store, SessionId(999))), Err(FsError::SessionExpired));
    w.d.check();
}

#[test]
fn a_whole_path_is_searched() {
    let mut w = World::new();
    w.dir("/a", 0o755, 1, 1);
    w.dir("/a/b", 0o700, 1, 1);
    w.dir("/a/b/c", 0o777, 1, 1);
    let file = w.file("/a/b/c/f", 0o666, 1, 1);
    let to = b"/a/b/c/f".to_vec();
    w.d.done(Operation::Symlink { target: Target::path("/l"), to, uid: 0, gid: 0 });
    let other = who(2, 2, &[]);
    let denied = Err(FsError::PermissionDenied);
    for path in ["/a/b/c/f", "/a/b/missing", "/l"] {
        assert_eq!(stat(&w.d.store, &other, &Target::path(path)).map(drop), denied, "{path}");
        assert_eq!(w.ask(&other, attrs(path, |a| a.size = Some(1))).map(drop), denied, "{path}");
    }
    assert!(stat(&w.d.store, &other, &Target::path("/a/b")).is_ok());
    assert!(stat(&w.d.store, &other, &Target::ino(file)).is_ok(), "by its number nothing is searched");
    assert!(stat(&w.d.store, &who(1, 9, &[]), &Target::path("/l")).is_ok());
}

#[test]
fn in_a_sticky_directory_names_are_their_owners() {
    let mut w = World::new();
    w.dir("/tmp", 0o1777, 1, 1);
    w.dir("/other", 0o777, 1, 1);
    let not_permitted = Err(FsError::NotPermitted);
    for name in ["/tmp/a", "/tmp/b", "/tmp/c", "/tmp/d"] {
        w.file(name, 0o666, 5, 5);
    }
    let (stranger, owner, of_directory) = (who(6, 5, &[]), who(5, 9, &[]), who(1, 9, &[]));
    assert_eq!(w.ask(&stranger, unlink("/tmp/a")).map(drop), not_permitted);
    assert_eq!(w.ask(&stranger, rename("/tmp/a", "/other/a")).map(drop), not_permitted);
    w.ask(&stranger, create("/tmp/mine", Vec::new())).unwrap();
    assert_eq!(w.ask(&stranger, rename("/tmp/mine", "/tmp/a")).map(drop), not_permitted);
    w.ask(&stranger, rename("/tmp/mine", "/tmp/mine2")).unwrap();
    w.ask(&owner, unlink("/tmp/a")).unwrap();
    w.ask(&of_directory, unlink("/tmp/b")).unwrap();
    w.ask(&who(0, 0, &[]), unlink("/tmp/c")).unwrap();
    w.d.check();
}

#[test]
fn mode_owner_and_times_are_the_owners_to_change() {
    let mut w = World::new();
    w.file("/f", 0o606, OWNER, GROUP);
    let (owner, other) = (who(OWNER, GROUP, &[22]), who(3, 3, &[]));
    let not_permitted = || Err(FsError::NotPermitted);
    let both_now = |a: &mut Attrs| (a.mtime, a.atime) = (Some(TimeChange::Now), Some(TimeChange::Now));
    let at = Some(TimeChange::At(Timestamp(1)));
    let of_owners: [&dyn Fn(&mut Attrs); 5] = [
        &|a| a.mode = Some(0o606),
        &|a| a.gid = Some(GROUP),
        &|a| a.uid = Some(OWNER),
        &|a| a.mtime = at,
        &|a| a.atime = Some(TimeChange::Now),
    ];
    for (n, change) in of_owners.iter().enumerate() {
        assert_eq!(w.ask(&other, attrs("/f", change)).map(drop), not_permitted(), "change {n}");
        w.ask(&owner, attrs("/f", change)).unwrap();
    }
    w.ask(&other, attrs("/f", both_now)).unwrap();
    w.set("/f", 0o604, OWNER, GROUP);
    let denied = Err(FsError::PermissionDenied);
    assert_eq!(w.ask(&other, attrs("/f", both_now)).map(drop), denied, "who may not write sets no time");
    assert_eq!(w.ask(&owner, attrs("/f", |a| a.uid = Some(3))).map(drop), not_permitted(), "given away");
    assert_eq!(w.ask(&owner, attrs("/f", |a| a.gid = Some(23))).map(drop), not_permitted(), "not a member");
    w.ask(&owner, attrs("/f", |a| a.gid = Some(22))).unwrap();
    // The set-group-ID bit is not for those who are not in the group.
    w.set("/f", 0o644, OWNER, 77);
    let set = w.ask(&owner, attrs("/f", |a| a.mode = Some(0o6755))).unwrap().unwrap();
    assert_eq!(set.mode, 0o4755);
    let cut = w.ask(&owner, attrs("/f", |a| a.size = Some(1))).unwrap().unwrap();
    assert_eq!(cut.mode, 0o755);
    let policy = Operation::SetPolicy { target: Target::path("/"), policy: Some(driver::POLICY) };
    assert_eq!(w.ask(&owner, policy).map(drop), not_permitted());
}

#[test]
fn what_a_caller_makes_is_its_own() {
    let mut w = World::new();
    w.dir("/d", 0o777, 1, 1);
    w.dir("/team", 0o2777, 1, 40);
    let caller = who(5, 6, &[7]);
    let made = w.ask(&caller, create("/d/f", Vec::new())).unwrap().unwrap();
    assert_eq!((made.uid, made.gid), (5, 6), "whatever the request says");
    let mkdir = |path: &str| Operation::Mkdir {
        target: Target::path(path),
        mode: 0o755,
        uid: 0,
        gid: 0,
        parents: false,
    };
    let made = w.ask(&caller, mkdir("/team/sub")).unwrap().unwrap();
    assert_eq!((made.uid, made.gid, made.mode), (5, 40, 0o2755));
    let Operation::Create { target, uid, gid, exclusive, truncate, extents, .. } =
        create("/team/f", Vec::new())
    else {
        unreachable!()
    };
    let program = Operation::Create { target, mode: 0o2755, uid, gid, exclusive, truncate, extents };
    let made = w.ask(&caller, program).unwrap().unwrap();
    assert_eq!((made.gid, made.mode), (40, 0o755), "not a program of a group that it is not in");
    let root = who(0, 0, &[]);
    let Operation::Mkdir { target, mode, parents, .. } = mkdir("/d/given") else { unreachable!() };
    let made = w.ask(&root, Operation::Mkdir { target, mode, uid: 8, gid: 9, parents }).unwrap().unwrap();
    assert_eq!((made.uid, made.gid), (8, 9), "user 0 makes for others");
}

#[test]
fn a_file_made_read_only_is_written_through_the_handle_it_was_made_with() {
    let mut w = World::new();
    w.dir("/d", 0o777, 1, 1);
    let caller = who(5, 6, &[]);
    let command = Command::OpenSessionAs { client: "c".into(), credentials: caller };
    let session = w.d.ok(command).session.unwrap();
    (w.d.session, w.d.sequence) = (session, 0);
    let made = w.d.done(create("/d/f", Vec::new())).inode.unwrap();
    w.d.done(attrs("/d/f", |a| a.mode = Some(0o400)));
    let open = Operation::OpenChunk { policy_of: InodeId::ROOT, placement: placement() };
    let chunk = w.d.done(open).chunk.unwrap().chunk;
    let extents = vec![extent(0, 4, chunk, 0)];
    w.d.done(Operation::Commit { ino: made.ino, extents, expected_length: None });
    let again = w.d.ask(attrs("/d/f", |a| a.size = Some(0)));
    assert_eq!(again.map(drop), Err(FsError::PermissionDenied), "by its path it is read-only");
    w.d.check();
}

#[test]
fn trusted_and_security_attributes_are_user_0_s() {
    let mut w = World::new();
    w.file("/f", 0o644, OWNER, GROUP);
    let (owner, root) = (who(OWNER, GROUP, &[]), who(0, 0, &[]));
    let set = |name: &str| Operation::SetXattr {
        target: Target::path("/f"),
        name: name.as_bytes().to_vec(),
        value: b"1".to_vec(),
        mode: XattrMode::Any,
    };
    for name in ["trusted.a", "security.a"] {
        assert_eq!(w.ask(&owner, set(name)).map(drop), Err(FsError::NotPermitted), "{name}");
        w.ask(&root, set(name)).unwrap();
    }
    w.ask(&owner, set("user.a")).unwrap();
    let at = Target::path("/f");
    let names = |who| refused(read::xattr_names_as(&w.d.store, Some(who), &at)).unwrap();
    assert_eq!(names(&owner), [b"security.a".to_vec(), b"user.a".to_vec()]);
    assert_eq!(names(&root).len(), 3);
    let get =
        |w: &World, who, name: &str| refused(read::xattr_as(&w.d.store, Some(who), &at, name.as_bytes()));
    assert_eq!(get(&w, &owner, "trusted.a"), Err(FsError::NoSuchAttribute));
    assert_eq!(get(&w, &owner, "security.a"), Ok(b"1".to_vec()));
    w.set("/f", 0o200, OWNER, GROUP);
    assert_eq!(get(&w, &owner, "user.a"), Err(FsError::PermissionDenied));
}

#[test]
fn a_session_s_credentials_are_bounded_and_go_with_it() {
    let mut w = World::new();
    let groups: Vec<u32> = (0..1024).collect();
    let open = |groups: &[u32]| Command::OpenSessionAs { client: "c".into(), credentials: who(5, 6, groups) };
    let session = w.d.ok(open(&groups)).session.unwrap();
    let known = refused(read::caller(&w.d.store, session)).unwrap();
    assert_eq!(known, Some(who(5, 6, &groups)));
    let over: Vec<u32> = (0..1025).collect();
    assert_eq!(w.d.propose(open(&over)).map(drop), Err(FsError::InvalidRequest));
    w.d.ok(Command::CloseSession { session });
    let table = cairn_meta::store::Table::Credentials;
    let left = w.d.store.scan(table, &cairn_meta::store::KeyRange::default(), 9).unwrap();
    assert!(left.is_empty());
    assert_eq!(refused(read::caller(&w.d.store, session)), Err(FsError::SessionExpired));
    w.d.check();
}
