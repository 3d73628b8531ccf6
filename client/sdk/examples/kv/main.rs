//! A small key-value store on a CairnFS log, with crash recovery, checkpoints, and one owner at a time.
//!
//! Run it against `cairn up`: `cargo run --release -p cairn-sdk --example kv -- 127.0.0.1:7100 /kv`, and a
//! second one beside it: the first can then change nothing any more, and says so.
//!
//! Commands, one a line: `put KEY VALUE`, `get KEY`, `delete KEY`, `list [PREFIX]`, `checkpoint`, and `fill PREFIX
//! COUNT`, which puts so many keys, 64 at a time, and prints each when it is durable. How it works: `store/mod.rs`.

mod store;

use std::process::ExitCode;

use cairn_sdk::{Client, ConnectOptions};
use futures::{StreamExt, stream};
use store::{Store, StoreError};
use tokio::io::{AsyncBufReadExt, BufReader};

/// A new log begins when one is so long.
const LOG_BYTES: u64 = 4 << 20;
/// Writes under way at once.
const AT_ONCE: usize = 64;
/// The exit code of an instance that does not own the store any more.
const LOST: u8 = 3;

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let meta = arguments.next().unwrap_or_else(|| "127.0.0.1:7100".to_owned());
    let directory = arguments.next().unwrap_or_else(|| "/kv".to_owned());
    match run(meta, &directory).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(StoreError::Lost(why)) => {
            println!("lost: {why}");
            ExitCode::from(LOST)
        }
        Err(error) => {
            eprintln!("kv: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(meta: String, directory: &str) -> Result<(), StoreError> {
    let client = Client::connect(ConnectOptions::new(meta.split(','))).await?;
    let store = Store::open(client.clone(), directory, LOG_BYTES).await?;
    println!("open: {} keys, owner {}", store.list(b"").len(), store.epoch());
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["put", key, value] => {
                store.put(key, value).await?;
                println!("ok");
            }
            ["get", key] => match store.get(key.as_bytes()) {
                Some(value) => println!("{}", String::from_utf8_lossy(&value)),
                None => println!("none"),
            },
            ["delete", key] => {
                store.delete(key).await?;
                println!("ok");
            }
            ["list"] => list(&store, ""),
            ["list", prefix] => list(&store, prefix),
            ["checkpoint"] => {
                store.checkpoint().await?;
                println!("ok");
            }
            ["fill", prefix, count] => fill(&store, prefix, count.parse().unwrap_or(0)).await?,
            _ => println!(
                "put KEY VALUE | get KEY | delete KEY | list [PREFIX] | checkpoint | fill PREFIX COUNT"
            ),
        }
    }
    store.close().await?;
    client.close().await?;
    Ok(())
}

fn list(store: &Store, prefix: &str) {
    let found = store.list(prefix.as_bytes());
    for (key, value) in &found {
        println!("{} {}", String::from_utf8_lossy(key), String::from_utf8_lossy(value));
    }
    println!("{} keys", found.len());
}

async fn fill(store: &Store, prefix: &str, count: u64) -> Result<(), StoreError> {
    let puts = (0..count).map(|n| async move {
        let key = format!("{prefix}{n}");
        store.put(key.as_str(), n.to_string()).await.map(|()| key)
    });
    let mut puts = stream::iter(puts).buffer_unordered(AT_ONCE);
    while let Some(stored) = puts.next().await {
        println!("stored {}", stored?);
    }
    println!("filled");
    Ok(())
}
