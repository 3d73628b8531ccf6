//! The network's limits: bare TCP on the loopback, a thread on either side, nothing behind it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::measure::{Recorder, Run};
use crate::exit::CliError;

const FLOOD_PIECE_BYTES: usize = 1 << 20;

fn failed(error: std::io::Error) -> CliError {
    CliError::io("measure", "bare TCP", error)
}

/// One message of `bytes` there and back at a time, for `seconds`.
pub async fn round_trips(bytes: usize, seconds: f64) -> Result<Run, CliError> {
    let both = move || {
        let (mut near, mut far) = pair()?;
        let other = std::thread::spawn(move || {
            let mut message = vec![0; bytes];
            while far.read_exact(&mut message).is_ok() {
                far.write_all(&message)?;
            }
            Ok::<_, std::io::Error>(())
        });
        let mut message = vec![7; bytes];
        let mut recorder = Recorder::start();
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        while Instant::now() < until {
            let started = Instant::now();
            near.write_all(&message)?;
            near.read_exact(&mut message)?;
            recorder.record(started.elapsed(), 1.0);
        }
        drop(near);
        joined(other)?;
        Ok(recorder.finish())
    };
    tokio::task::spawn_blocking(both).await?.map_err(failed)
}

/// `bytes` one way in pieces of 1 MiB; the rate is in 10⁶ bytes a second.
pub async fn flood(bytes: usize) -> Result<Run, CliError> {
    let both = move || {
        let (mut near, mut far) = pair()?;
        let other = std::thread::spawn(move || {
            let piece = vec![7; FLOOD_PIECE_BYTES];
            for _ in 0..bytes.div_ceil(FLOOD_PIECE_BYTES) {
                far.write_all(&piece)?;
            }
            Ok::<_, std::io::Error>(())
        });
        let mut piece = vec![0; FLOOD_PIECE_BYTES];
        let mut recorder = Recorder::start();
        for _ in 0..bytes.div_ceil(FLOOD_PIECE_BYTES) {
            let started = Instant::now();
            near.read_exact(&mut piece)?;
            recorder.record(started.elapsed(), FLOOD_PIECE_BYTES as f64 / 1e6);
        }
        joined(other)?;
        Ok(recorder.finish())
    };
    tokio::task::spawn_blocking(both).await?.map_err(failed)
}

fn pair() -> std::io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    Ok((near, far))
}

fn joined(other: std::thread::JoinHandle<std::io::Result<()>>) -> std::io::Result<()> {
    other.join().unwrap_or_else(|_| Err(std::io::Error::other("the other side panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bare_tcp_is_measured_to_its_end() {
        let trips = round_trips(128, 0.05).await.expect("the loopback is there");
        assert!(trips.rate > 0.0 && trips.p50 > 0.0);
        let flood = flood(4 << 20).await.expect("the loopback is there");
        assert!(flood.rate > 0.0);
    }
}
