//! docs/ERRORS.md against the code: every namespace and service error has its row there, with the message,
//! errno, gRPC code, SDK kind and exit code that the code gives; and every test that ERRORS.md or SEMANTICS.md
//! names exists.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cairn_proto::ServiceError;
use cairn_proto::status::{fs_error_detail, fs_status, service_error_detail};
use cairn_sdk::types::{ChunkId, FsError, NodeId, Sequence};
use cairn_sdk::{Cause, ErrorKind};
use rustix::io::Errno;
use tonic::{Code, Status};

fn root() -> PathBuf {
    Path::new("..").canonicalize().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The cells of the tables of a document, under its last heading, with the table's header.
struct Row {
    section: String,
    header: Vec<String>,
    cells: Vec<String>,
}

impl Row {
    fn cell(&self, column: &str) -> &str {
        let at = self.header.iter().position(|name| name == column);
        at.and_then(|at| self.cells.get(at)).map_or("", String::as_str)
    }
}

fn rows(document: &str) -> Vec<Row> {
    let mut found = Vec::new();
    let (mut section, mut header) = (String::new(), Vec::new());
    for line in document.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title.to_owned();
        }
        let Some(inside) = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) else {
            header.clear();
            continue;
        };
        let inside = inside.replace("\\|", "\u{1}");
        let cells: Vec<String> = inside.split('|').map(|c| c.trim().replace('\u{1}', "|")).collect();
        if header.is_empty() {
            header = cells;
        } else if !cells.iter().all(|cell| cell.chars().all(|c| c == '-')) {
            found.push(Row { section: section.clone(), header: header.clone(), cells });
        }
    }
    found
}

/// The rows of one section by the kind in their first cell.
fn by_kind(section: &str) -> BTreeMap<String, Row> {
    let rows = rows(&read("docs/ERRORS.md")).into_iter().filter(|row| row.section == section);
    rows.map(|row| (row.cells[0].trim_matches('`').to_owned(), row)).collect()
}

/// The variants of an enum, as its source has them.
fn variants(path: &str, name: &str) -> BTreeSet<String> {
    let source = read(path);
    let start = source.find(&format!("pub enum {name} {{")).unwrap();
    let body = &source[start..];
    let body = &body[..body.find("\n}\n").unwrap()];
    let names = body.lines().skip(1).filter_map(|line| {
        let line = line.strip_prefix("    ")?;
        let name: String = line.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
        name.starts_with(|c: char| c.is_ascii_uppercase()).then_some(name)
    });
    names.collect()
}

fn service_errors() -> Vec<ServiceError> {
    use ServiceError as E;
    let chunk = ChunkId(1);
    vec![
        E::NotLeader { leader_address: String::new() },
        E::Deadline,
        E::AnswerLost,
        E::Overloaded,
        E::Stopping,
        E::ForeignCluster,
        E::ForeignProtocol { theirs: 1, ours: 2 },
        E::Malformed { field: "x".to_owned() },
        E::NoSuchChunk { chunk },
        E::ChunkFenced { chunk },
        E::ChunkFull { chunk },
        E::NotPrimary { chunk },
        E::SequenceGap { expected: Sequence(1) },
        E::Corrupt { chunk },
        E::ChecksumMismatch,
        E::NotUndecided { chunk },
        E::Decidable { chunk },
        E::LossDiffers { chunk, length: 1 },
        E::NothingLeft { chunk },
        E::Diverged { chunk, length: 1 },
        E::NodeAlive { node: NodeId(101) },
        E::TooFewLeft { node: NodeId(101), left: 1, needed: 2 },
        E::NoSuchNode { node: NodeId(101) },
        E::TooManyWatches { most: 256 },
        E::WatcherTooSlow,
        E::MemberIdUsed { node: NodeId(101) },
        E::NoSuchMember { node: NodeId(101) },
        E::MemberUnreachable { node: NodeId(101) },
        E::NotWaiting { node: NodeId(101) },
        E::MemberBehind { node: NodeId(101), lag: 1 },
        E::NoLiveMajority { live: 1, voters: 1 },
        E::NeedsLevel { needs: 2, level: 1 },
        E::MemberLevel { node: NodeId(101), highest: 1, level: 2 },
        E::UnderStore,
        E::ObjectChanged,
        E::DiskRetired,
        E::DiskFull { node: NodeId(101), free_bytes: 1, capacity_bytes: 2 },
        E::Internal,
    ]
}

/// A gRPC code as its specification writes it.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

fn errno_of(name: &str) -> Option<i32> {
    let known = [
        ("ENOENT", Errno::NOENT),
        ("EEXIST", Errno::EXIST),
        ("ENOTDIR", Errno::NOTDIR),
        ("EISDIR", Errno::ISDIR),
        ("EINVAL", Errno::INVAL),
        ("ENOTEMPTY", Errno::NOTEMPTY),
        ("ENAMETOOLONG", Errno::NAMETOOLONG),
        ("ELOOP", Errno::LOOP),
        ("EILSEQ", Errno::ILSEQ),
        ("EXDEV", Errno::XDEV),
        ("EROFS", Errno::ROFS),
        ("EBUSY", Errno::BUSY),
        ("EPERM", Errno::PERM),
        ("EMLINK", Errno::MLINK),
        ("EFBIG", Errno::FBIG),
        ("EAGAIN", Errno::AGAIN),
        ("ECANCELED", Errno::CANCELED),
        ("ESTALE", Errno::STALE),
        ("ETIMEDOUT", Errno::TIMEDOUT),
        ("ENOBUFS", Errno::NOBUFS),
        ("EOVERFLOW", Errno::OVERFLOW),
        ("E2BIG", Errno::TOOBIG),
        ("EOPNOTSUPP", Errno::OPNOTSUPP),
        ("EACCES", Errno::ACCESS),
        ("ENODATA", Errno::NODATA),
        ("EIO", Errno::IO),
        ("ENOSPC", Errno::NOSPC),
        ("EHOSTDOWN", Errno::HOSTDOWN),
        ("EDEADLK", Errno::DEADLK),
        ("ENOLCK", Errno::NOLCK),
    ];
    known.iter().find(|(known, _)| *known == name).map(|(_, errno)| errno.raw_os_error())
}

/// The exit code that `cairn` gives to an error of this kind, as the page's first table says.
fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Invalid | ErrorKind::Fenced => 1,
        ErrorKind::Retry | ErrorKind::RetryElsewhere | ErrorKind::Unknown | ErrorKind::Unavailable => 3,
        ErrorKind::Corrupt => 4,
    }
}

/// True when a row's message is the error's, where each run of digits and each `{field}` may stand for the other.
fn same_message(written: &str, said: &str) -> bool {
    let mut pieces = Vec::new();
    let mut rest = written;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((_, after)) = after.split_once('}') else { return false };
        pieces.push(before);
        rest = after;
    }
    pieces.push(rest);
    let mut said = said;
    for (n, piece) in pieces.iter().enumerate() {
        match said.find(piece) {
            Some(at) if n > 0 || at == 0 => said = &said[at + piece.len()..],
            _ => return false,
        }
    }
    said.is_empty() || pieces.last().is_some_and(|last| last.is_empty())
}

fn compare(row: &Row, kind: &str, message: &str, code: Code, cause: Cause) {
    assert!(
        same_message(row.cell("message"), message),
        "{kind}: '{}' is not '{message}'",
        row.cell("message")
    );
    assert_eq!(row.cell("gRPC code"), code_name(code), "{kind}");
    assert_eq!(row.cell("SDK kind"), format!("{:?}", cause.kind()), "{kind}");
    assert_eq!(row.cell("exit"), exit_code(cause.kind()).to_string(), "{kind}");
    assert!(!row.cell("what to do").is_empty(), "{kind}");
}

#[test]
fn every_namespace_error_has_its_row() {
    let rows = by_kind("Namespace errors");
    let declared = variants("types/src/error.rs", "FsError");
    let kinds: BTreeSet<String> = FsError::samples().iter().map(|e| fs_error_detail(e).kind).collect();
    assert_eq!(kinds, declared, "FsError::samples() has every variant once");
    assert_eq!(rows.keys().cloned().collect::<BTreeSet<_>>(), declared, "docs/ERRORS.md, Namespace errors");
    for error in FsError::samples() {
        let kind = fs_error_detail(&error).kind;
        let row = &rows[&kind];
        assert_eq!(errno_of(row.cell("errno")), Some(error.errno()), "{kind}: {}", row.cell("errno"));
        compare(row, &kind, &error.to_string(), fs_status(&error).code(), Cause::Fs(error));
    }
}

#[test]
fn every_service_error_has_its_row() {
    let rows = by_kind("Service errors");
    let declared = variants("proto/src/service_error.rs", "ServiceError");
    let kinds: BTreeSet<String> = service_errors().iter().map(|e| service_error_detail(e).kind).collect();
    assert_eq!(kinds, declared, "service_errors() above lists every variant once");
    assert_eq!(rows.keys().cloned().collect::<BTreeSet<_>>(), declared, "docs/ERRORS.md, Service errors");
    for error in service_errors() {
        let kind = service_error_detail(&error).kind;
        let code = Status::from(error.clone()).code();
        compare(&rows[&kind], &kind, &error.to_string(), code, Cause::Service(error));
    }
}

fn sources(directory: &Path, found: &mut String) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && !name.starts_with("target") {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// True when the sources have a test of that name: a function, or one that a macro of the protocol model makes.
fn is_test(sources: &str, name: &str) -> bool {
    sources.contains(&format!("fn {name}("))
        || sources.lines().any(|line| line.trim_start().starts_with(&format!("{name}:")))
}

#[test]
fn the_tests_named_in_the_documents_exist() {
    let mut code = String::new();
    sources(&root(), &mut code);
    let mut missing = Vec::new();
    let mut named = 0;
    for document in ["docs/ERRORS.md", "docs/SEMANTICS.md"] {
        for row in rows(&read(document)).iter().filter(|row| row.header.iter().any(|name| name == "tests")) {
            let tests = row.cell("tests");
            let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
            assert!(!names.is_empty() || tests.starts_with("no test yet"), "{document}: {:?}", row.cells);
            named += names.len();
            missing.extend(
                names.iter().filter(|name| !is_test(&code, name)).map(|name| format!("{document}: {name}")),
            );
        }
    }
    assert!(missing.is_empty(), "no such tests:\n{}", missing.join("\n"));
    assert!(named > 50, "only {named} tests are named: are the tables read?");
}

#[test]
fn a_wrong_row_is_found() {
    assert!(same_message("the file's length is {actual}, not {expected}", "the file's length is 2, not 1"));
    assert!(!same_message("no such file", "no such file or directory"));
    assert!(!same_message("the length is {n}", "a length is 2"));
    let table = rows("## S\n\n| kind | tests |\n|---|---|\n| `A` | `x` \\| y |\n\ntext\n");
    assert_eq!(table.len(), 1);
    assert_eq!((table[0].cell("kind"), table[0].cell("tests")), ("`A`", "`x` | y"));
    assert!(is_test("fn x() {", "x") && !is_test("fn xy() {", "x"));
}

/// Every `cairn_meta_…` and `cairn_data_…` in quotes: the names of metrics.
fn metrics(text: &str, quote: char) -> BTreeSet<String> {
    let words =
        text.split(quote).filter(|word| word.starts_with("cairn_meta_") || word.starts_with("cairn_data_"));
    let name = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    words.filter(name).map(str::to_owned).collect()
}

#[test]
fn every_metric_is_in_the_operators_tables() {
    let mut code = String::new();
    for krate in ["meta/src", "datanode/src"] {
        sources(&root().join(krate), &mut code);
    }
    let written = metrics(&read("docs/OPERATIONS.md"), '`');
    let emitted = metrics(&code, '"');
    assert!(emitted.len() > 30, "only {} metrics found", emitted.len());
    assert_eq!(written, emitted, "docs/OPERATIONS.md against the code");
}
