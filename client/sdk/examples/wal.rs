//! A write-ahead log on CairnFS: open it for ourselves alone, replay what is there, append.
//!
//! Run it against `cairn up`: `cargo run --release -p cairn-sdk --example wal -- 127.0.0.1:7100`

use cairn_sdk::{Client, ConnectOptions};

/// A record is its length (4 bytes, little-endian) and its bytes.
fn encode(record: &[u8]) -> Vec<u8> {
    let mut out = (record.len() as u32).to_le_bytes().to_vec();
    out.extend_from_slice(record);
    out
}

fn decode(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*header) as usize;
        let Some((record, after)) = rest.split_at_checked(length) else { break };
        records.push(record.to_vec());
        bytes = after;
    }
    records
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let meta = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7100".to_owned());
    let client = Client::connect(ConnectOptions::new([meta])).await?;
    client.mkdir_all("/wal-example", 0o755).await?;

    // Every earlier writer is fenced off from here on; `end` is the exact end of the log.
    let log = client.open_exclusive("/wal-example/log").await?;
    let end = log.end().unwrap_or(0);
    let file = client.open(log.ino()).await?;
    let replayed = decode(&file.read_at(0, usize::try_from(end)?).await?);
    println!("replayed {} records, {end} bytes", replayed.len());

    // Each append is on every replica's disk when it returns.
    for n in 0..10 {
        let record = encode(format!("record {}", replayed.len() + n).as_bytes());
        let offset = log.append(record).await?;
        println!("record {} at {offset}", replayed.len() + n);
    }

    // `append_at` appends only when nobody else has: the compare-and-set of logs.
    let end = file_end(&client).await?;
    log.append_at(end, encode(b"the last one")).await?;
    let refused = log.append_at(end, encode(b"too late")).await;
    println!("appending at the old end again: {}", refused.err().map_or_else(String::new, |e| e.to_string()));

    log.close().await?;
    client.close().await?;
    Ok(())
}

async fn file_end(client: &Client) -> Result<u64, cairn_sdk::Error> {
    Ok(client.stat("/wal-example/log").await?.size)
}
