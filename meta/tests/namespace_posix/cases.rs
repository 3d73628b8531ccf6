//! What POSIX and Linux say, case by case.

use cairn_meta::keys::mounts::MountSource;
use cairn_meta::namespace::{NamespaceError, Operation, Target, TimeChange, XattrMode, read};
use cairn_types::limits::{XATTR_BYTES_MAX, XATTRS_MAX};
use cairn_types::{DeviceNumber, FileKind, FsError, Inode, InodeId, Timestamp};

use super::driver::{Driver, create, extent};

type Change<'c> = &'c dyn Fn(&mut Driver, InodeId);

impl Driver {
    fn rename(&mut self, from: &str, to: &str) -> Result<(), FsError> {
        let (from, to) = (Target::path(from), Target::path(to));
        self.ask(Operation::Rename { from, to, no_replace: false, exchange: false }).map(drop)
    }

    fn link(&mut self, from: &str, to: &str) {
        self.done(Operation::Link { from: Target::path(from), to: Target::path(to) });
    }

    fn chmod(&mut self, path: &str, mode: u32) {
        self.change(path, |m, _, _, _| *m = Some(mode));
    }

    fn change(
        &mut self,
        path: &str,
        set: impl Fn(&mut Option<u32>, &mut Option<u32>, &mut Option<u32>, &mut Option<u64>),
    ) -> Inode {
        let (mut mode, mut uid, mut gid, mut size) = (None, None, None, None);
        set(&mut mode, &mut uid, &mut gid, &mut size);
        let (target, mtime, atime, expected_version) = (Target::path(path), None, None, None);
        let set = Operation::SetAttr { target, mode, uid, gid, size, mtime, atime, expected_version };
        self.done(set).inode.unwrap()
    }

    fn set_xattr(&mut self, path: &str, name: &str, value: &[u8]) -> Result<(), FsError> {
        let (target, name, value) = (Target::path(path), name.as_bytes().to_vec(), value.to_vec());
        self.ask(Operation::SetXattr { target, name, value, mode: XattrMode::Any }).map(drop)
    }

    fn xattr(&self, path: &str, name: &str) -> Option<Vec<u8>> {
        match read::xattr(&self.store, &Target::path(path), name.as_bytes()) {
            Ok(value) => Some(value),
            Err(NamespaceError::Refused(FsError::NoSuchAttribute)) => None,
            Err(other) => panic!("{other}"),
        }
    }

    fn xattrs(&self, path: &str) -> usize {
        read::xattr_names(&self.store, &Target::path(path)).unwrap().len()
    }

    /// mtime and ctime.
    fn times(&self, path: &str) -> (i64, i64) {
        let inode = self.stat(path).unwrap();
        (inode.mtime.0, inode.ctime.0)
    }

    /// A later time.
    fn later(&mut self) -> i64 {
        self.now += 10;
        self.now
    }
}

#[test]
fn a_rename_over_what_is_there_does_as_posix_says() {
    let mut d = Driver::new();
    d.mkdir("/empty");
    d.mkdir("/full/sub");
    d.mkdir("/dir");
    d.file("/file");
    d.file("/other");
    assert_eq!(d.rename("/dir", "/full"), Err(FsError::NotEmpty));
    assert_eq!(d.rename("/full/sub", "/full"), Err(FsError::NotEmpty), "over the directory it lies in");
    assert_eq!(d.rename("/file", "/empty"), Err(FsError::IsDirectory));
    assert_eq!(d.rename("/dir", "/file"), Err(FsError::NotDirectory));
    assert_eq!(d.rename("/full", "/full/sub"), Err(FsError::IntoItself));
    let links = d.stat("/").unwrap().nlink;
    let dir = d.stat("/dir").unwrap().ino;
    d.rename("/dir", "/empty").unwrap();
    assert_eq!(d.stat("/empty").unwrap().ino, dir);
    assert_eq!(d.stat("/").unwrap().nlink, links - 1);
    let file = d.stat("/file").unwrap().ino;
    d.rename("/file", "/other").unwrap();
    assert_eq!((d.stat("/other").unwrap().ino, d.stat("/file")), (file, Err(FsError::NotFound)));
    d.check();
}

#[test]
fn a_rename_onto_another_name_of_the_same_file_does_nothing() {
    let mut d = Driver::new();
    d.mkdir("/a");
    d.file("/a/f");
    d.link("/a/f", "/g");
    let (file, root, dir) = (d.stat("/g").unwrap(), d.stat("/").unwrap(), d.stat("/a").unwrap());
    d.later();
    d.rename("/a/f", "/g").unwrap();
    d.rename("/g", "/g").unwrap();
    assert_eq!((d.stat("/g").unwrap(), d.stat("/a/f").unwrap()), (file.clone(), file));
    assert_eq!((d.stat("/").unwrap(), d.stat("/a").unwrap()), (root, dir));
    d.check();
}

#[test]
fn each_change_marks_the_times_that_posix_says() {
    let mut d = Driver::new();
    d.mkdir("/a");
    d.mkdir("/b");
    d.file("/a/f");
    let born = d.times("/a/f");
    let t = d.later();
    d.link("/a/f", "/b/g");
    assert_eq!(d.times("/a/f"), (born.0, t), "link: ctime of the file");
    assert_eq!((d.times("/a"), d.times("/b")), (born, (t, t)), "and of the directory of the new name");
    let t = d.later();
    d.unlink("/b/g");
    assert_eq!((d.times("/a/f"), d.times("/b")), ((born.0, t), (t, t)), "unlink");
    let t = d.later();
    d.rename("/a/f", "/b/f").unwrap();
    assert_eq!(d.times("/b/f"), (born.0, t), "rename: ctime of what is moved");
    assert_eq!((d.times("/a"), d.times("/b")), ((t, t), (t, t)), "and both directories");
    let t = d.later();
    d.change("/b/f", |_, _, _, size| *size = Some(0));
    assert_eq!(d.times("/b/f"), (t, t), "truncate to the size it has");
    let cut = t;
    let t = d.later();
    d.chmod("/b/f", 0o600);
    assert_eq!(d.times("/b/f"), (cut, t), "chmod");
    let t = d.later();
    d.change("/b/f", |_, uid, _, _| *uid = Some(0));
    assert_eq!(d.times("/b/f"), (cut, t), "chown to the same owner");
    let t = d.later();
    d.set_xattr("/b/f", "user.a", b"1").unwrap();
    assert_eq!(d.times("/b/f"), (cut, t), "setxattr");
    let t = d.later();
    let now = Operation::SetAttrNow {
        target: Target::path("/b/f"),
        mode: None,
        uid: None,
        gid: None,
        size: None,
        mtime: Some(TimeChange::At(Timestamp(5))),
        atime: Some(TimeChange::Now),
        expected_version: None,
    };
    let inode = d.done(now).inode.unwrap();
    assert_eq!((inode.mtime.0, inode.ctime.0, inode.atime.0), (5, t, t), "utimensat");
    d.check();
}

#[test]
fn opening_to_append_changes_no_time_and_appended_bytes_do() {
    let mut d = Driver::new();
    let ino = d.file("/log");
    d.chmod("/log", 0o6755);
    let born = d.times("/log");
    d.later();
    let chunk = d.open_tail(ino, 0, 1).unwrap().chunk.unwrap().chunk;
    assert_eq!(d.times("/log"), born);
    d.close(chunk, 0, Vec::new());
    assert_eq!((d.times("/log"), d.stat("/log").unwrap().mode), (born, 0o6755), "nothing was appended");
    let chunk = d.open_tail(ino, 0, 1).unwrap().chunk.unwrap().chunk;
    let t = d.later();
    d.close(chunk, 5, Vec::new());
    assert_eq!((d.times("/log"), d.stat("/log").unwrap().mode), ((t, t), 0o755));
    d.check();
}

#[test]
fn what_is_made_in_a_set_group_id_directory_gets_its_group() {
    let mut d = Driver::new();
    d.mkdir("/team");
    d.change("/team", |mode, _, gid, _| (*mode, *gid) = (Some(0o2775), Some(7)));
    d.mkdir("/team/sub/deep");
    d.file("/team/sub/f");
    let to = b"x".to_vec();
    d.done(Operation::Symlink { target: Target::path("/team/l"), to, uid: 1, gid: 1 });
    let (target, kind) = (Target::path("/team/p"), FileKind::Fifo);
    d.done(Operation::Mknod { target, kind, mode: 0o600, uid: 1, gid: 1 });
    for dir in ["/team/sub", "/team/sub/deep"] {
        let inode = d.stat(dir).unwrap();
        assert_eq!((inode.gid, inode.mode), (7, 0o2755), "{dir}");
    }
    let file = d.stat("/team/sub/f").unwrap();
    assert_eq!((file.gid, file.mode), (7, 0o644));
    assert_eq!(d.stat("/team/p").unwrap().gid, 7);
    let link = read::resolve(&d.store, &Target::path("/team/l").no_follow()).unwrap();
    assert_eq!(link.gid, 7);
    d.check();
}

#[test]
fn a_change_of_owner_or_content_takes_set_ids_and_capabilities() {
    let mut d = Driver::new();
    let chunk = d.shared_chunk();
    let changes: [Change; 5] = [
        &|d, _| drop(d.change("/f", |_, uid, _, _| *uid = Some(3))),
        &|d, _| drop(d.change("/f", |_, _, gid, _| *gid = Some(3))),
        &|d, _| drop(d.change("/f", |_, _, _, size| *size = Some(9))),
        &|d, ino| {
            let extents = vec![extent(0, 1, chunk, 0)];
            d.done(Operation::Commit { ino, extents, expected_length: None });
        },
        &|d, _| {
            let Operation::Create { target, mode, uid, gid, exclusive, extents, .. } =
                create("/f", Vec::new())
            else {
                unreachable!()
            };
            d.done(Operation::Create { target, mode, uid, gid, exclusive, truncate: true, extents });
        },
    ];
    let ino = d.file("/f");
    for (n, change) in changes.iter().enumerate() {
        d.chmod("/f", 0o6755);
        d.set_xattr("/f", "security.capability", b"cap").unwrap();
        d.set_xattr("/f", "user.kept", b"1").unwrap();
        change(&mut d, ino);
        assert_eq!(d.stat("/f").unwrap().mode, 0o755, "change {n}");
        assert_eq!(d.xattr("/f", "security.capability"), None, "change {n}");
        assert_eq!(d.xattr("/f", "user.kept"), Some(b"1".to_vec()));
        d.chmod("/f", 0o6745);
        change(&mut d, ino);
        assert_eq!(d.stat("/f").unwrap().mode, 0o2745, "change {n}: the group does not run it");
    }
    // A mode that is set in the same change stands.
    let inode = d.change("/f", |mode, uid, _, _| (*mode, *uid) = (Some(0o4755), Some(5)));
    assert_eq!(inode.mode, 0o4755);
    d.mkdir("/d");
    d.change("/d", |mode, uid, _, _| (*mode, *uid) = (Some(0o2777), Some(5)));
    assert_eq!(d.change("/d", |_, uid, _, _| *uid = Some(6)).mode, 0o2777, "a directory keeps the bit");
    d.check();
}

#[test]
fn special_files_are_linked_moved_and_removed_as_files_are_and_hold_no_bytes() {
    let mut d = Driver::new();
    let device = DeviceNumber { major: 1, minor: 3 };
    let kinds = [
        FileKind::Fifo,
        FileKind::Socket,
        FileKind::CharacterDevice(device),
        FileKind::BlockDevice(DeviceNumber { major: 4095, minor: 1_048_575 }),
    ];
    d.mkdir("/d");
    for kind in kinds {
        let target = Target::path("/s");
        let made = d.done(Operation::Mknod { target, kind, mode: 0o640, uid: 1, gid: 2 }).inode.unwrap();
        assert_eq!((made.kind, made.mode, made.uid, made.gid, made.nlink), (kind, 0o640, 1, 2, 1));
        d.link("/s", "/d/t");
        d.rename("/s", "/d/s").unwrap();
        let found = d.stat("/d/t").unwrap();
        assert_eq!((found.ino, found.kind, found.nlink), (made.ino, kind, 2));
        let commit = Operation::Commit { ino: made.ino, extents: Vec::new(), expected_length: None };
        assert_eq!(d.ask(commit).map(drop), Err(FsError::NotFile));
        assert_eq!(d.open_tail(made.ino, 0, 1).map(drop), Err(FsError::NotFile));
        assert_eq!(d.create("/d/s", Vec::new()).map(drop), Err(FsError::NotFile));
        assert_eq!(d.set_xattr("/d/s", "user.a", b""), Err(FsError::NotPermitted));
        d.set_xattr("/d/s", "trusted.a", b"1").unwrap();
        d.unlink("/d/s");
        d.unlink("/d/t");
        d.check();
    }
    let large = FileKind::BlockDevice(DeviceNumber { major: 4096, minor: 0 });
    let target = Target::path("/s");
    let made = d.ask(Operation::Mknod { target, kind: large, mode: 0, uid: 0, gid: 0 });
    assert_eq!(made.map(drop), Err(FsError::InvalidRequest));
}

#[test]
fn extended_attributes_are_the_inode_s_and_go_with_it() {
    let mut d = Driver::new();
    d.mkdir("/a");
    d.mkdir("/over");
    d.file("/a/f");
    d.link("/a/f", "/g");
    d.set_xattr("/a/f", "user.one", b"1").unwrap();
    d.set_xattr("/g", "user.two", b"").unwrap();
    assert_eq!(d.xattr("/g", "user.one"), Some(b"1".to_vec()));
    d.rename("/a/f", "/h").unwrap();
    assert_eq!((d.xattrs("/h"), d.xattrs("/g")), (2, 2));
    d.unlink("/h");
    assert_eq!(d.xattr("/g", "user.two"), Some(Vec::new()));
    d.set_xattr("/a", "user.dir", b"x").unwrap();
    d.set_xattr("/over", "user.dir", b"y").unwrap();
    d.rename("/a", "/over").unwrap();
    assert_eq!(d.xattr("/over", "user.dir"), Some(b"x".to_vec()));
    d.file("/new");
    d.rename("/new", "/g").unwrap();
    assert_eq!(d.xattrs("/g"), 0, "what was replaced took its own along");
    d.done(Operation::Rmdir { target: Target::path("/over") });
    d.check();
}

#[test]
fn so_many_attributes_and_so_many_bytes_and_no_more() {
    let mut d = Driver::new();
    d.file("/f");
    let full = vec![7; XATTR_BYTES_MAX];
    d.set_xattr("/f", "user.all", &full).unwrap();
    assert_eq!(d.xattr("/f", "user.all"), Some(full.clone()));
    assert_eq!(d.set_xattr("/f", "user.b", b"1"), Err(FsError::TooManyAttributes));
    assert_eq!(d.set_xattr("/f", "user.all", &[full, vec![7]].concat()), Err(FsError::AttributeTooLarge));
    d.set_xattr("/f", "user.b", b"").unwrap();
    d.set_xattr("/f", "user.all", b"less").unwrap();
    for n in 2..XATTRS_MAX {
        d.set_xattr("/f", &format!("user.{n:03}"), b"v").unwrap();
    }
    assert_eq!(d.xattrs("/f"), XATTRS_MAX as usize);
    assert_eq!(d.set_xattr("/f", "user.more", b""), Err(FsError::TooManyAttributes));
    d.set_xattr("/f", "user.b", b"replaced").unwrap();
    d.check();
    d.unlink("/f");
    d.check();
}

#[test]
fn a_mount_s_end_gives_its_attributes_to_the_directory_in_its_place() {
    let mut d = Driver::new();
    d.mkdir("/m");
    d.set_xattr("/m", "user.a", b"1").unwrap();
    let source = MountSource { bucket: "b".into(), ..MountSource::default() };
    d.done(Operation::MountAdd { target: Target::path("/m"), source });
    assert!(matches!(d.set_xattr("/m", "user.a", b"2"), Err(FsError::ReadOnlyMount { .. })));
    assert_eq!(d.xattr("/m", "user.a"), Some(b"1".to_vec()));
    d.done(Operation::MountRemove { target: Target::path("/m") });
    assert_eq!((d.xattr("/m", "user.a"), d.xattrs("/m")), (Some(b"1".to_vec()), 1));
    d.check();
}
