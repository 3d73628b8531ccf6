//! POSIX ACLs: what is valid, how they and modes follow each other, what is inherited, what they grant.

use cairn_meta::namespace::{NamespaceError, Operation, Target, XattrMode, read};
use cairn_types::{Credentials, FsError};
use proptest::prelude::*;

use super::{GROUP, OWNER, World, attrs, create, refused, who};

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

const OBJ: u32 = u32::MAX;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const IN_GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// The bytes as Linux has them, written here anew.
fn acl(entries: &[(u16, u32, u16)]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    for (tag, id, bits) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(bits.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn set(path: &str, name: &str, value: &[u8]) -> Operation {
    let (target, name, value) = (Target::path(path), name.as_bytes().to_vec(), value.to_vec());
    Operation::SetXattr { target, name, value, mode: XattrMode::Any }
}

impl World {
    fn acl(&self, path: &str, name: &str) -> Option<Vec<u8>> {
        match read::xattr(&self.d.store, &Target::path(path), name.as_bytes()) {
            Ok(value) => Some(value),
            Err(NamespaceError::Refused(FsError::NoSuchAttribute)) => None,
            Err(other) => panic!("{other}"),
        }
    }

    fn mode(&self, path: &str) -> u32 {
        self.d.stat(path).unwrap().mode
    }

    fn reads(&self, caller: &Credentials) -> bool {
        refused(read::extents_as(&self.d.store, Some(caller), &Target::path("/f"), (0, 1))).is_ok()
    }
}

#[test]
fn only_a_valid_acl_is_taken() {
    let mut w = World::new();
    w.file("/f", 0o644, OWNER, GROUP);
    let base = [(USER_OBJ, OBJ, 6), (GROUP_OBJ, OBJ, 4), (OTHER, OBJ, 4)];
    let with = |at: usize, entry: (u16, u32, u16)| {
        let mut entries = base.to_vec();
        entries.insert(at, entry);
        acl(&entries)
    };
    let invalid = [
        Vec::new(),
        vec![1, 0, 0, 0],
        [acl(&base), vec![0]].concat(),
        acl(&base[..2]),
        acl(&[base[1], base[0], base[2]]),
        with(1, (USER, 5, 4)),
        with(2, (IN_GROUP, 5, 4)),
        with(3, (OTHER, OBJ, 4)),
        with(1, (0x40, OBJ, 4)),
        acl(&[(USER_OBJ, OBJ, 8), base[1], base[2]]),
    ];
    for bytes in invalid {
        assert_eq!(w.d.ask(set("/f", ACCESS, &bytes)).map(drop), Err(FsError::InvalidRequest), "{bytes:?}");
    }
    let users = (0..1025).map(|uid| (USER, uid, 4));
    let many: Vec<_> = [base[0]].into_iter().chain(users).chain([base[1], (MASK, OBJ, 4), base[2]]).collect();
    assert_eq!(w.d.ask(set("/f", ACCESS, &acl(&many))).map(drop), Err(FsError::AttributeTooLarge));
    let default = w.d.ask(set("/f", DEFAULT, &acl(&base))).map(drop);
    assert_eq!(default, Err(FsError::PermissionDenied), "only a directory hands on");
    let other = w.ask(&who(3, 3, &[]), set("/f", ACCESS, &acl(&base))).map(drop);
    assert_eq!(other, Err(FsError::NotPermitted));
    w.d.check();
}

#[test]
fn an_acl_and_the_mode_follow_each_other() {
    let mut w = World::new();
    w.file("/f", 0o644, OWNER, GROUP);
    w.d.done(set("/f", ACCESS, &acl(&[(USER_OBJ, OBJ, 7), (GROUP_OBJ, OBJ, 5), (OTHER, OBJ, 1)])));
    assert_eq!((w.mode("/f"), w.acl("/f", ACCESS)), (0o751, None), "what a mode can say is the mode");
    let full = |owner, mask, other| {
        let named = [(USER_OBJ, OBJ, owner), (USER, 5, 7), (GROUP_OBJ, OBJ, 6)];
        acl(&[named.as_slice(), &[(MASK, OBJ, mask), (OTHER, OBJ, other)]].concat())
    };
    w.d.done(set("/f", ACCESS, &full(6, 5, 0)));
    assert_eq!(
        (w.mode("/f"), w.acl("/f", ACCESS)),
        (0o650, Some(full(6, 5, 0))),
        "the mask is the group's bits"
    );
    w.d.done(attrs("/f", |a| a.mode = Some(0o724)));
    assert_eq!((w.mode("/f"), w.acl("/f", ACCESS)), (0o724, Some(full(7, 2, 4))));
    w.d.done(set("/f", ACCESS, &[2, 0, 0, 0]));
    assert_eq!((w.mode("/f"), w.acl("/f", ACCESS)), (0o724, None), "an empty one removes it");
    w.d.check();
}

#[test]
fn a_default_acl_is_inherited() {
    let mut w = World::new();
    w.dir("/d", 0o777, 1, 1);
    let default =
        acl(&[(USER_OBJ, OBJ, 7), (USER, 5, 6), (GROUP_OBJ, OBJ, 5), (MASK, OBJ, 7), (OTHER, OBJ, 4)]);
    w.d.done(set("/d", DEFAULT, &default));
    w.d.file("/d/f");
    let access =
        acl(&[(USER_OBJ, OBJ, 6), (USER, 5, 6), (GROUP_OBJ, OBJ, 5), (MASK, OBJ, 4), (OTHER, OBJ, 4)]);
    // Made with 0644: the owner, the mask and others get no more than that.
    assert_eq!((w.mode("/d/f"), w.acl("/d/f", ACCESS)), (0o644, Some(access)));
    assert_eq!(w.acl("/d/f", DEFAULT), None);
    w.d.mkdir("/d/sub");
    assert_eq!(w.acl("/d/sub", DEFAULT), Some(default));
    w.d.mkdir("/d/sub/deep");
    assert!(w.acl("/d/sub/deep", ACCESS).is_some());
    let to = b"f".to_vec();
    w.d.done(Operation::Symlink { target: Target::path("/d/l"), to, uid: 0, gid: 0 });
    let link = read::xattr_names(&w.d.store, &Target::path("/d/l").no_follow()).unwrap();
    assert!(link.is_empty());
    let plain = acl(&[(USER_OBJ, OBJ, 6), (GROUP_OBJ, OBJ, 0), (OTHER, OBJ, 0)]);
    w.d.done(set("/d", DEFAULT, &plain));
    w.d.done(create("/d/private", Vec::new()));
    assert_eq!((w.mode("/d/private"), w.acl("/d/private", ACCESS)), (0o600, None));
    w.d.unlink("/d/f");
    w.d.check();
}

#[test]
fn an_acl_grants_what_it_says_and_no_more_than_its_mask() {
    let mut w = World::new();
    w.file("/f", 0o600, OWNER, GROUP);
    let entries = |mask| {
        acl(&[
            (USER_OBJ, OBJ, 6),
            (USER, 5, 4),
            (USER, 6, 0),
            (GROUP_OBJ, OBJ, 0),
            (IN_GROUP, 30, 4),
            (MASK, OBJ, mask),
            (OTHER, OBJ, 4),
        ])
    };
    w.d.done(set("/f", ACCESS, &entries(7)));
    assert!(w.reads(&who(OWNER, 9, &[])));
    assert!(w.reads(&who(5, 9, &[])), "a user that is named");
    assert!(!w.reads(&who(6, 30, &[])), "its own entry, whatever its groups have");
    assert!(w.reads(&who(7, GROUP, &[30])), "one of its groups grants it");
    assert!(!w.reads(&who(7, GROUP, &[])), "a member of a group that is named is not among the others");
    assert!(w.reads(&who(7, 9, &[])), "others");
    w.d.done(set("/f", ACCESS, &entries(2)));
    assert!(!w.reads(&who(5, 9, &[])) && !w.reads(&who(7, 30, &[])), "the mask");
    assert!(w.reads(&who(OWNER, 9, &[])) && w.reads(&who(7, 9, &[])), "is not for the owner and others");
    w.d.check();
}

/// What acl(5) says of an access, for the entries in their order: who owns it, who is named, whose
/// groups are, and the rest.
fn oracle(entries: &[(u16, u32, u16)], owner: (u32, u32), caller: &Credentials, want: u16) -> bool {
    let of = |tag: u16| entries.iter().filter(move |e| e.0 == tag);
    let mask = of(MASK).map(|e| e.2).next().unwrap_or(7);
    if caller.uid == owner.0 {
        return of(USER_OBJ).all(|e| e.2 & want == want);
    }
    if let Some(named) = of(USER).find(|e| e.1 == caller.uid) {
        return named.2 & mask & want == want;
    }
    let mine = |gid: u32| caller.gid == gid || caller.groups.contains(&gid);
    let members: Vec<u16> = of(GROUP_OBJ)
        .filter(|_| mine(owner.1))
        .chain(of(IN_GROUP).filter(|e| mine(e.1)))
        .map(|e| e.2 & mask)
        .collect();
    match members.is_empty() {
        true => of(OTHER).all(|e| e.2 & want == want),
        false => members.iter().any(|bits| bits & want == want),
    }
}

fn entries() -> impl Strategy<Value = Vec<(u16, u32, u16)>> {
    let bits = || 0u16..8;
    let users = proptest::collection::btree_map(1u32..4, bits(), 0..3);
    let groups = proptest::collection::btree_map(20u32..24, bits(), 0..3);
    // A mask of nothing is the mode's business: no entry is asked then.
    (bits(), users, bits(), groups, 1u16..8, bits()).prop_map(|(owner, users, group, groups, mask, other)| {
        let mut entries = vec![(USER_OBJ, OBJ, owner)];
        entries.extend(users.into_iter().map(|(uid, bits)| (USER, uid, bits)));
        entries.push((GROUP_OBJ, OBJ, group));
        entries.extend(groups.into_iter().map(|(gid, bits)| (IN_GROUP, gid, bits)));
        if entries.len() > 2 {
            entries.push((MASK, OBJ, mask));
        }
        entries.push((OTHER, OBJ, other));
        entries
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every caller gets what the entries say, to read and to write.
    #[test]
    fn acls_grant_what_the_manual_says(entries in entries(), uid in 1u32..6, gid in 20u32..25, further in 20u32..25) {
        let mut w = World::new();
        w.file("/f", 0o777, 1, 20);
        w.d.done(set("/f", ACCESS, &acl(&entries)));
        let caller = who(uid, gid, &[further]);
        prop_assert_eq!(w.reads(&caller), oracle(&entries, (1, 20), &caller, 4));
        let cut = w.ask(&caller, attrs("/f", |a| a.size = Some(1)));
        prop_assert_eq!(cut.is_ok(), oracle(&entries, (1, 20), &caller, 2));
        w.d.check();
    }
}
