//! Names, places, links, link counts, lost subtrees, orphans.

use cairn_meta::keys::counters::{self, ClusterRecord};
use cairn_meta::keys::links;
use cairn_meta::keys::nodes::{self, NodeRow};
use cairn_meta::keys::orphans::{self, Orphan};
use cairn_meta::keys::places::{self, Place};
use cairn_meta::namespace::check::{Counter, Finding};
use cairn_meta::store::Table;
use cairn_types::{FileKind, Inode, InodeId};

use crate::world::{Edit, World};
use crate::{left, mended};

pub fn inode(row: &mut NodeRow) -> &mut Inode {
    match row {
        NodeRow::Inode(inode) => inode,
        NodeRow::Link { .. } => panic!("{row:?}"),
    }
}

fn count(counter: Counter, recorded: u64, counted: u64) -> Finding {
    Finding::WrongCount { counter, recorded, counted }
}

fn inodes(w: &World) -> u64 {
    cairn_meta::namespace::read::cluster(&w.d.store).unwrap().counts.inodes
}

#[test]
fn a_row_that_cannot_be_read() {
    let key = || places::key(InodeId(999));
    left(
        |_, e| e.raw(Table::Places, key(), &[7, 7]),
        |_| vec![Finding::Undecodable { table: "places".into(), key: key() }],
    );
}

#[test]
fn an_inode_that_cannot_be_read_is_all_that_is_said_of_it() {
    left(
        |w, e| {
            e.raw(Table::Nodes, nodes::key(w.a, b"data"), &[9]);
            e.change(counters::KEY.to_vec(), |cluster: &mut ClusterRecord| cluster.counts.inodes -= 1);
        },
        |w| vec![Finding::Undecodable { table: "nodes".into(), key: nodes::key(w.a, b"data") }],
    );
}

#[test]
fn no_root() {
    left(
        |_, e| {
            e.change(nodes::key(InodeId(0), b""), |row: &mut NodeRow| {
                inode(row).kind = FileKind::File;
                inode(row).nlink = 1;
            });
        },
        |_| vec![Finding::NoRoot {}, Finding::NoDirectory { parent: InodeId::ROOT }],
    );
}

#[test]
fn an_inode_without_a_place_gets_it() {
    let w = mended(
        |w, e| e.delete(Table::Places, places::key(w.a)),
        |w| vec![Finding::NoPlace { ino: w.a, parent: InodeId::ROOT, name: b"a".to_vec() }],
    );
    assert_eq!(w.d.stat("/a/b/c").unwrap().ino, w.c);
}

#[test]
fn an_inode_with_a_wrong_place_gets_the_right_one() {
    mended(
        |w, e| e.put(places::key(w.data), &Place { parent: w.b, name: b"nowhere".to_vec() }),
        |w| vec![Finding::NoPlace { ino: w.data, parent: w.a, name: b"data".to_vec() }],
    );
}

#[test]
fn an_inode_at_two_names() {
    left(
        |w, e| {
            let row: NodeRow = e.get(&nodes::key(w.a, b"data"));
            e.put(nodes::key(w.b, b"twin"), &row);
            e.change(counters::KEY.to_vec(), |cluster: &mut ClusterRecord| cluster.counts.inodes += 1);
        },
        |w| vec![Finding::TwoPrimaries { ino: w.data, parent: w.b, name: b"twin".to_vec() }],
    );
}

#[test]
fn a_place_without_an_inode_goes() {
    mended(
        |w, e| e.put(places::key(InodeId(999)), &Place { parent: w.a, name: b"no".to_vec() }),
        |w| vec![Finding::DanglingPlace { ino: InodeId(999), parent: w.a, name: b"no".to_vec() }],
    );
}

#[test]
fn a_hard_link_to_nothing_goes() {
    mended(
        |w, e| {
            let ino = InodeId(999);
            e.put(nodes::key(w.a, b"ghost"), &NodeRow::Link { ino, kind: FileKind::File });
            e.mark(Table::Links, links::key(ino, w.a, b"ghost"));
        },
        |w| vec![Finding::DanglingName { ino: InodeId(999), parent: w.a, name: b"ghost".to_vec() }],
    );
}

#[test]
fn a_hard_link_that_is_not_listed_is_listed() {
    mended(
        |w, e| e.delete(Table::Links, links::key(w.linked, w.b, b"g")),
        |w| vec![Finding::UnlistedLink { ino: w.linked, parent: w.b, name: b"g".to_vec() }],
    );
}

#[test]
fn a_listed_hard_link_that_is_none_goes() {
    mended(
        |w, e| e.mark(Table::Links, links::key(w.linked, w.b, b"h")),
        |w| vec![Finding::StrayLink { ino: w.linked, parent: w.b, name: b"h".to_vec() }],
    );
}

/// Sets the link count of what is at a name.
fn set_nlink(e: &mut Edit<'_>, parent: InodeId, name: &[u8], nlink: u32) {
    e.change(nodes::key(parent, name), |row: &mut NodeRow| inode(row).nlink = nlink);
}

fn link_count(w: &World, ino: InodeId, recorded: u32, counted: u32) -> Finding {
    let target = cairn_meta::namespace::Target::ino(ino);
    let version = cairn_meta::namespace::read::stat(&w.d.store, &target).unwrap().inode.version;
    Finding::LinkCount { ino, version, recorded, counted }
}

#[test]
fn link_counts_become_what_there_is() {
    mended(|_, e| set_nlink(e, InodeId::ROOT, b"a", 9), |w| vec![link_count(w, w.a, 9, 3)]);
    mended(|w, e| set_nlink(e, w.b, b"c", 3), |w| vec![link_count(w, w.c, 3, 2)]);
    mended(|w, e| set_nlink(e, w.a, b"f", 1), |w| vec![link_count(w, w.linked, 1, 2)]);
    mended(|w, e| set_nlink(e, w.a, b"data", 4), |w| vec![link_count(w, w.data, 4, 1)]);
    mended(|_, e| set_nlink(e, InodeId::ROOT, b"m", 2), |w| vec![link_count(w, w.mount, 2, 3)]);
}

#[test]
fn a_lost_link_is_counted_when_its_name_is_listed_again() {
    mended(
        |w, e| {
            e.delete(Table::Links, links::key(w.linked, w.b, b"g"));
            set_nlink(e, w.a, b"f", 1);
        },
        |w| {
            let name = b"g".to_vec();
            let unlisted = Finding::UnlistedLink { ino: w.linked, parent: w.b, name };
            vec![unlisted, link_count(w, w.linked, 1, 2)]
        },
    );
}

#[test]
fn a_directory_with_more_names_than_are_counted_again_is_mended_unless_it_changed() {
    for changed in [false, true] {
        let mut w = World::new();
        for n in 0..4_100 {
            w.d.file(&format!("/a/b/{n}"));
        }
        w.plant(|w, e| set_nlink(e, w.a, b"b", 7));
        let expected = link_count(&w, w.b, 7, 3);
        assert_eq!(w.found(), std::slice::from_ref(&expected));
        if changed {
            w.d.mkdir("/a/b/late");
        }
        let mended = w.repair(&expected);
        assert_eq!(mended.is_err(), changed, "{mended:?}");
        assert_eq!(w.found().is_empty(), !changed);
    }
}

#[test]
fn names_of_a_directory_that_is_gone_are_found_again() {
    let w = mended(
        |w, e| e.delete(Table::Nodes, nodes::key(w.a, b"b")),
        |w| {
            vec![
                link_count(w, w.a, 3, 2),
                Finding::LostDirectory { ino: w.b, subdirectories: 1 },
                Finding::DanglingPlace { ino: w.b, parent: w.a, name: b"b".to_vec() },
                count(Counter::Inodes, inodes(w), inodes(w) - 1),
            ]
        },
    );
    let found = w.d.stat(&format!("/lost+found/#{}", w.b.0)).unwrap();
    assert_eq!((found.ino, found.kind, found.mode, found.nlink), (w.b, FileKind::Directory, 0o700, 3));
    assert_eq!(w.d.stat(&format!("/lost+found/#{}/g", w.b.0)).unwrap().ino, w.linked);
}

#[test]
fn two_lost_directories_share_lost_and_found() {
    let w = mended(
        |w, e| {
            let file = |ino: InodeId, e: &mut Edit<'_>| {
                let row: NodeRow = e.get(&nodes::key(w.a, b"data"));
                let NodeRow::Inode(data) = row else { panic!("{row:?}") };
                let parent = InodeId(ino.0 + 1);
                e.put(nodes::key(parent, b"n"), &NodeRow::Inode(Inode { ino, size: 0, ..data }));
                e.put(places::key(ino), &Place { parent, name: b"n".to_vec() });
            };
            file(InodeId(900), e);
            file(InodeId(910), e);
            e.change(counters::KEY.to_vec(), |cluster: &mut ClusterRecord| {
                cluster.counts.inodes += 2;
                cluster.next.inode = InodeId(1_000);
            });
        },
        |_| {
            let lost = |ino| Finding::LostDirectory { ino: InodeId(ino), subdirectories: 0 };
            vec![lost(901), lost(911)]
        },
    );
    assert_eq!(w.d.stat("/lost+found/#901/n").unwrap().ino, InodeId(900));
    assert_eq!(w.d.stat("/lost+found/#911/n").unwrap().ino, InodeId(910));
    assert_eq!(w.d.stat("/lost+found").unwrap().nlink, 4);
}

#[test]
fn names_in_what_is_no_directory() {
    left(
        |w, e| {
            let ino = InodeId(w.linked.0);
            e.put(nodes::key(w.data, b"in"), &NodeRow::Link { ino, kind: FileKind::File });
            e.mark(Table::Links, links::key(ino, w.data, b"in"));
            set_nlink(e, w.a, b"f", 3);
        },
        |w| vec![Finding::NoDirectory { parent: w.data }],
    );
}

/// Takes a directory out of its place and hangs it into another one.
fn hang(e: &mut Edit<'_>, dir: InodeId, from: (InodeId, &[u8]), into: InodeId) {
    let row: NodeRow = e.get(&nodes::key(from.0, from.1));
    e.delete(Table::Nodes, nodes::key(from.0, from.1));
    e.put(nodes::key(into, b"ring"), &row);
    e.put(places::key(dir), &Place { parent: into, name: b"ring".to_vec() });
}

#[test]
fn a_directory_that_lies_within_itself_is_taken_out() {
    let w = mended(
        |w, e| {
            // a → b → a; c hangs under the ring and is no part of it.
            hang(e, w.a, (InodeId::ROOT, b"a"), w.b);
            e.change(nodes::key(w.a, b"b"), |row: &mut NodeRow| inode(row).nlink += 1);
            e.change(nodes::key(InodeId(0), b""), |row: &mut NodeRow| inode(row).nlink -= 1);
        },
        |w| vec![Finding::Cycle { ino: w.a }],
    );
    assert_eq!(w.d.stat(&format!("/lost+found/#{}/b/c", w.a.0)).unwrap().ino, w.c);
}

#[test]
fn a_directory_in_itself_is_taken_out() {
    let w = mended(
        |w, e| {
            let row: NodeRow = e.get(&nodes::key(w.b, b"c"));
            let NodeRow::Inode(mut c) = row else { panic!("{row:?}") };
            c.nlink += 1;
            e.delete(Table::Nodes, nodes::key(w.b, b"c"));
            e.put(nodes::key(w.c, b"me"), &NodeRow::Inode(c));
            e.put(places::key(w.c), &Place { parent: w.c, name: b"me".to_vec() });
            e.change(nodes::key(w.a, b"b"), |row: &mut NodeRow| inode(row).nlink -= 1);
        },
        |w| vec![Finding::Cycle { ino: w.c }],
    );
    assert_eq!(w.d.stat(&format!("/lost+found/#{}", w.c.0)).unwrap().nlink, 2);
}

#[test]
fn what_waits_for_its_removal_and_has_a_name_stays() {
    mended(
        |w, e| {
            let row: NodeRow = e.get(&nodes::key(w.a, b"data"));
            let NodeRow::Inode(data) = row else { panic!("{row:?}") };
            e.put(orphans::key(w.data), &Orphan { inode: data, since: None });
        },
        |w| vec![Finding::NamedOrphan { ino: w.data }],
    );
}

#[test]
fn a_lost_and_found_that_is_a_file_is_no_place_for_anything() {
    let mut w = World::new();
    w.d.file("/lost+found");
    w.plant(|w, e| e.delete(Table::Nodes, nodes::key(w.a, b"b")));
    let lost = Finding::LostDirectory { ino: w.b, subdirectories: 1 };
    assert!(w.found().contains(&lost));
    assert_eq!(w.repair(&lost), Err(cairn_types::FsError::Exists));
    w.d.done(cairn_meta::namespace::Operation::Unlink {
        target: cairn_meta::namespace::Target::path("/lost+found"),
    });
    assert!(w.repair(&lost).is_ok());
}
