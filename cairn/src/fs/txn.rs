//! `cairn fs txn`: a transaction that a JSON document describes.

mod document;

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io::Read;

use cairn_sdk::types::{FsError, Inode};
use cairn_sdk::{Client, Error, ErrorKind};
use serde_json::{Value, json};

use crate::exit::CliError;
use crate::output::{inode_json, object};
use document::Document;

/// Bytes in a document, at most.
const DOCUMENT_BYTES_MAX: u64 = 4 << 20;

/// Reads the document, commits it, and tells what became of it.
pub async fn run(client: &Client, file: &OsStr, json: bool) -> Result<(), CliError> {
    let text = read(file)?;
    let shown = file.to_string_lossy();
    let document: Document =
        serde_json::from_str(&text).map_err(|error| CliError::Usage(format!("{shown}: {error}")))?;
    let committed = document.transaction(client)?.commit().await;
    if !json {
        return Ok(committed.map(|_| ())?);
    }
    match committed {
        Ok(steps) => object(&json!({"committed": true, "operations": told(&document, &steps)})),
        Err(error) => {
            if let Some(told) = refusal(&error) {
                object(&told)?;
            }
            Err(error.into())
        }
    }
}

fn read(file: &OsStr) -> Result<String, CliError> {
    let shown: Cow<'_, str> = if file == "-" { "standard input".into() } else { file.to_string_lossy() };
    let mut text = String::new();
    let taken = if file == "-" {
        std::io::stdin().take(DOCUMENT_BYTES_MAX + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|f| f.take(DOCUMENT_BYTES_MAX + 1).read_to_string(&mut text))
    };
    let bytes = taken.map_err(|e| CliError::io("read", &shown, e))?;
    if bytes as u64 > DOCUMENT_BYTES_MAX {
        return Err(CliError::Usage(format!("{shown}: a transaction has 4 MiB of text at most")));
    }
    Ok(text)
}

/// For each operation the inode that it made or changed, null where there is none.
fn told(document: &Document, steps: &[Option<Inode>]) -> Vec<Value> {
    let paths = document.operations.iter().map(document::Operation::path);
    let inode = |path: &str, inode: &Inode| inode_json(path.as_bytes(), inode, false);
    paths.zip(steps).map(|(path, step)| step.as_ref().map_or(Value::Null, |i| inode(path, i))).collect()
}

/// What a refused transaction answers: which part it was, why, and what a precondition found.
fn refusal(error: &Error) -> Option<Value> {
    let fs = error.fs()?;
    let why = fs.reason().to_string();
    if error.kind() == ErrorKind::Unknown {
        return Some(json!({"committed": null, "why": why}));
    }
    Some(match fs {
        FsError::PreconditionFailed { index, found } => {
            let found = found.map(|f| json!({"ino": f.ino.0, "version": f.version, "length": f.length}));
            json!({"committed": false, "precondition": index, "why": why, "found": found})
        }
        FsError::PreconditionRefused { index, .. } => {
            json!({"committed": false, "precondition": index, "why": why})
        }
        FsError::OperationRefused { index, .. } => {
            json!({"committed": false, "operation": index, "why": why})
        }
        _ => json!({"committed": false, "why": why}),
    })
}
