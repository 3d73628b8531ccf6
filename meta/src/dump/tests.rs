//! Lines as docs/DUMP.md shows them, and dumps that are none.

use cairn_types::{
    ChunkId, ClusterId, Extent, ExtentSource, FileKind, Inode, InodeId, IntentId, LogIndex, MountId, PackId,
    Timestamp,
};

use super::*;
use crate::keys::chunks::{ChunkRecord, ChunkState};
use crate::keys::contents::ContentId;
use crate::keys::samples;
use crate::namespace::facts::{ChunkFact, Disks, Fact, Fate, Next, PartFact};

fn plain(kind: FileKind) -> Inode {
    let Inode { ino, mode, .. } = samples::inode();
    let (size, tail, target, policy, mount) = (0, None, None, None, None);
    Inode { ino, kind, mode, size, tail, target, policy, mount, ..samples::inode() }
}

fn open() -> ChunkFact {
    let sealed = samples::chunk();
    let (live_bytes, extent_end) = (0, 0);
    let state = ChunkState::Open;
    ChunkFact::of(&ChunkRecord { state, sealed: None, place: None, live_bytes, extent_end, ..sealed })
}

/// The sample after that one: a new kind does not compile without an arm here.
fn next_sample(fact: &Fact) -> Option<Fact> {
    let (ino, parent, name) = (InodeId(7), InodeId(1), b"name".to_vec());
    Some(match fact {
        Fact::Pack { .. } => {
            let (intent, pack, key) = (IntentId(5), PackId(5), "cc/packs/0000000000000005".into());
            Fact::PackDeletion { intent, pack, key, created_ns: Timestamp(9) }
        }
        Fact::PackDeletion { .. } => Fact::Chunk(ChunkFact::of(&samples::chunk())),
        Fact::Chunk(_) => Fact::Mount {
            mount: MountId(2),
            root: InodeId(6),
            bucket: "b".into(),
            prefix: "p/".into(),
            endpoint: String::new(),
            region: "eu-west-1".into(),
            refresh_ms: 60_000,
            force_path_style: false,
            created_ns: Timestamp(4),
        },
        Fact::Mount { .. } => Fact::Name { parent, name, inode: plain(FileKind::File) },
        Fact::Name { .. } => Fact::Link { parent, name: vec![0xff, b'x'], ino, kind: FileKind::File },
        Fact::Link { .. } => Fact::Xattr { ino, name: b"user.colour".to_vec(), value: "grün".into() },
        Fact::Xattr { .. } => Fact::Import {
            directory: InodeId(6),
            mount: MountId(2),
            prefix: b"p/".to_vec(),
            imported_ns: Some(Timestamp(9)),
        },
        Fact::Import { .. } => {
            Fact::Object { mount: MountId(2), key: b"p/k".to_vec(), ino, etag: "e".into(), size: 300 }
        }
        Fact::Object { .. } => {
            let part = |from, content| PartFact { from, content };
            Fact::Parts { ino, parts: vec![part(0, ContentId(7)), part(4096, ContentId::later(1))] }
        }
        Fact::Parts { .. } => Fact::Detached { content: ContentId(7), from: 4096 },
        Fact::Detached { .. } => {
            let source = ExtentSource::Chunk { chunk: ChunkId(9), offset: 64 };
            Fact::Extent { content: ContentId(7), offset: 0, length: 4096, source }
        }
        Fact::Extent { .. } => Fact::Orphan { inode: plain(FileKind::File) },
        Fact::Orphan { .. } => Fact::Tree {
            parent,
            name,
            inode: Inode { nlink: 2, ..plain(FileKind::Directory) },
            removed_ns: Timestamp(9),
            purged: 300,
            height: 1,
        },
        Fact::Tree { .. } => {
            Fact::Branch { tree: ino, place: 0, directory: InodeId(8), after: b"last".to_vec() }
        }
        Fact::Branch { .. } => return None,
    })
}

fn first_sample() -> Fact {
    let key = "cccccccccccccccccccccccccccccccc/packs/0000000000000004".into();
    let created_ns = Timestamp(6);
    Fact::Pack { pack: PackId(4), key, etag: "e".into(), bytes: 70_064, created_ns, deletion: None }
}

/// One of each kind, then further ones for what a kind may have besides.
fn samples() -> Vec<Fact> {
    let mut all: Vec<Fact> = std::iter::successors(Some(first_sample()), next_sample).collect();
    let symlink = Inode { target: Some(b"to".to_vec()), size: 2, ..plain(FileKind::Symlink) };
    let directory = Inode { policy: Some(samples::policy()), nlink: 2, ..plain(FileKind::Directory) };
    let growing = Inode { tail: samples::inode().tail, size: 4096, ..plain(FileKind::File) };
    let name = |name: &str, inode| Fact::Name { parent: InodeId(1), name: name.into(), inode };
    all.extend([
        Fact::Chunk(open()),
        name("directory", directory),
        name("growing", growing),
        name("symlink", symlink),
        name("device", plain(samples::device())),
        Fact::Extent { content: ContentId::later(1), offset: 4096, length: 1, source: samples::object() },
        Fact::Xattr { ino: InodeId(7), name: b"security.binary".to_vec(), value: vec![2, 0, 0, 0] },
    ]);
    all
}

fn header() -> Header {
    let next = Next {
        inode: InodeId(9),
        chunk: ChunkId(10),
        session: cairn_types::SessionId(2),
        pack: PackId(6),
        mount: MountId(3),
        intent: IntentId(6),
        contents: 1,
    };
    Header {
        format: FORMAT.into(),
        version: VERSION,
        cluster: ClusterId([0xcc; 16]),
        log_index: LogIndex(300),
        time_ns: Timestamp(11),
        next,
        inodes: 8,
        chunks: 2,
        packs: 1,
    }
}

fn dump_of(facts: &[Fact]) -> Vec<u8> {
    let (mut lines, mut out) = (DumpLines::new(), Vec::new());
    lines.header(&header(), &mut out);
    facts.iter().for_each(|fact| lines.fact(fact, &mut out));
    lines.end(&mut out);
    out
}

/// All facts, or what is wrong.
fn read(dump: &[u8]) -> Result<Vec<Fact>, DumpError> {
    let mut reader = DumpReader::open(dump)?;
    let mut facts = Vec::new();
    while let Some(line) = reader.next_line()? {
        facts.push(line.fact);
    }
    Ok(facts)
}

/// The lines in the description are those that are written, each of them, in this order.
#[test]
fn the_description_shows_each_line_as_it_is_written() {
    let text = std::fs::read_to_string("../docs/DUMP.md").unwrap();
    let shown: Vec<&str> = text.lines().filter(|line| line.starts_with("{\"fact\":")).collect();
    let dump = String::from_utf8(dump_of(&samples())).unwrap();
    let written: Vec<&str> = dump.lines().collect();
    assert_eq!(shown, written, "docs/DUMP.md should show:\n{dump}");
}

#[test]
fn what_is_written_is_read_back() {
    assert_eq!(read(&dump_of(&samples())).unwrap(), samples());
    assert_eq!(read(&dump_of(&[])).unwrap(), []);
    for name in [b"a\"b\\c".to_vec(), b"tab\t".to_vec(), (1..=255).collect(), "\u{7f}".into(), "ü".into()] {
        let fact = Fact::Xattr { ino: InodeId(7), name: name.clone(), value: name };
        assert_eq!(read(&dump_of(std::slice::from_ref(&fact))).unwrap(), [fact]);
    }
}

#[test]
fn a_dump_that_is_cut_anywhere_is_refused() {
    let whole = dump_of(&samples());
    for end in 0..whole.len() {
        let refused = read(&whole[..end]).expect_err("it is cut");
        let cut = matches!(refused, DumpError::NoDump | DumpError::Cut { .. });
        assert!(cut, "cut at {end}: {refused}");
    }
}

#[test]
fn a_dump_that_was_changed_is_refused_with_its_line() {
    let whole = String::from_utf8(dump_of(&samples())).unwrap();
    let shown = |text: &str| read(text.as_bytes()).expect_err("it is refused").to_string();
    let last = whole.lines().count();
    let more = whole.replace("\"uid\":1000", "\"uid\":0");
    assert!(shown(&more).starts_with(&format!("line {last}: the lines before")), "{}", shown(&more));
    let lines: Vec<&str> = whole.lines().collect();
    let without = [&lines[..3], &lines[4..]].concat().join("\n") + "\n";
    assert!(shown(&without).starts_with(&format!("line {}: the lines before", last - 1)));
    let twice = format!("{whole}{whole}");
    assert_eq!(shown(&twice), format!("line {}: there is more after the dump's last line", last + 1));
    for bad in
        ["{\"fact\":\"nonsense\"}", "{", "[]", "{\"fact\":\"detached\",\"content\":7,\"from\":1,\"x\":1}"]
    {
        let with = [&lines[..2], &[bad], &lines[2..]].concat().join("\n") + "\n";
        assert_eq!(shown(&with), "line 3: this is no fact of a namespace", "{bad}");
    }
    let long = format!("{}\n{}\n", lines[0], "x".repeat(LINE_BYTES_MAX));
    assert_eq!(shown(&long), format!("line 2: it has more than {LINE_BYTES_MAX} bytes"));
    for foreign in ["", "x", "{}\n", "{\"fact\":\"header\",\"format\":\"other\",\"version\":1}\n"] {
        assert_eq!(shown(foreign), "line 1: this is no dump of a namespace", "{foreign}");
    }
    let newer = whole.replacen("\"version\":1,", "\"version\":2,\"what_is_new\":[],", 1);
    assert_eq!(shown(&newer), "line 1: it has version 2 of the format, and this build reads 1");
}

#[test]
fn a_chunk_is_lost_when_neither_a_pack_nor_a_data_node_here_has_it() {
    let whole = ChunkFact::of(&samples::chunk());
    let here = Disks::from([(whole.replicas[0].disk, cairn_types::NodeId(205))]);
    let nowhere = Disks::new();
    let settled = |fact: &ChunkFact, disks: &Disks| {
        let mut fact = fact.clone();
        (fact.settle(disks), fact)
    };
    let (fate, kept) = settled(&whole, &here);
    let node = kept.replicas[0].node;
    assert_eq!(
        (fate, node.0, kept.sealed.as_ref().unwrap().holders.as_slice()),
        (Fate::Kept, 205, &[node][..])
    );
    let (fate, in_s3) = settled(&whole, &nowhere);
    assert_eq!((fate, in_s3.replicas.as_slice()), (Fate::Kept, &[][..]), "its pack has it");
    let unpersisted = ChunkFact { place: None, ..whole.clone() };
    assert_eq!(settled(&unpersisted, &here).0, Fate::Kept);
    let (fate, mut lost) = settled(&unpersisted, &nowhere);
    assert_eq!(fate, Fate::Lost);
    assert!(lost.end(), "extents point at it");
    let record = lost.record();
    assert_eq!((record.sealed_length(), record.live_bytes, record.extent_end), (Some(0), 70_000, 70_000));
    let dead = ChunkFact { live_bytes: 0, ..unpersisted };
    assert_eq!((settled(&dead, &here).0, settled(&dead, &nowhere).0), (Fate::Kept, Fate::Unneeded));
    let (fate, mut tail) = settled(&open(), &nowhere);
    assert_eq!((fate, tail.end()), (Fate::Lost, false), "a tail's bytes are known to nobody else");
    let (fate, kept) = settled(&open(), &here);
    assert_eq!((fate, kept.primary, kept.record().state), (Fate::Kept, Some(node), ChunkState::Sealing));
    let owner = crate::keys::chunks::ChunkOwner::Session(cairn_types::SessionId(1));
    assert_eq!(settled(&ChunkFact { owner, ..open() }, &nowhere).0, Fate::Unneeded);
}

/// A sound dump by hand: a root with one file, whose bytes are in a pack.
fn small() -> Vec<Fact> {
    let root = Inode { ino: InodeId::ROOT, nlink: 2, ..plain(FileKind::Directory) };
    let file = Inode { size: 70_000, ..plain(FileKind::File) };
    let chunk = ChunkFact { ..ChunkFact::of(&samples::chunk()) };
    let extent = Extent {
        file_offset: 0,
        length: 70_000,
        source: ExtentSource::Chunk { chunk: ChunkId(9), offset: 0 },
    };
    vec![
        first_sample(),
        Fact::Chunk(chunk),
        Fact::Name { parent: InodeId(0), name: Vec::new(), inode: root },
        Fact::Name { parent: InodeId(1), name: b"f".to_vec(), inode: file },
        Fact::Extent { content: ContentId(7), offset: 0, length: extent.length, source: extent.source },
    ]
}

fn verified(facts: &[Fact], disks: &Disks) -> Result<Verified, VerifyError> {
    let scratch = tempfile::tempdir().unwrap();
    verify(dump_of(facts).as_slice(), scratch.path(), disks, &mut |_, _| {})
}

#[test]
fn a_dump_is_verified_before_anything_is_changed() {
    let sound = verified(&small(), &Disks::new()).unwrap();
    assert_eq!((sound.load.facts, sound.losses, sound.kinds["name"]), (5, Losses::default(), 2));
    for missing in [0, 1, 2, 4] {
        let mut facts = small();
        let fact = facts.remove(missing);
        let refused = verified(&facts, &Disks::new()).map(drop);
        assert!(matches!(refused, Err(VerifyError::Damage { .. })), "without {fact:?}: {refused:?}");
    }
    let mut stray = small();
    stray.push(Fact::Name { parent: InodeId(0), name: b"x".to_vec(), inode: plain(FileKind::File) });
    assert!(matches!(verified(&stray, &Disks::new()), Err(VerifyError::Refused { line: 2, .. })));
    let mut unpersisted = small();
    unpersisted.remove(0);
    let Fact::Chunk(chunk) = &mut unpersisted[0] else { panic!("{unpersisted:?}") };
    chunk.place = None;
    let disks = Disks::from([(chunk.replicas[0].disk, cairn_types::NodeId(101))]);
    assert_eq!(verified(&unpersisted, &disks).unwrap().losses, Losses::default());
    let lost = Losses { chunks: 1, growing: 0, bytes: 70_000 };
    assert_eq!(verified(&unpersisted, &Disks::new()).unwrap().losses, lost);
}
