//! Who listens. One port takes gRPC and frames: the first byte of a connection tells which it is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cairn_proto::frames::{MAGIC, SOCKET_BYTES_MAX};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::connection::Frames;

/// The unix socket's name in the node's directory.
pub const SOCKET_NAME: &str = "frames.sock";
/// How long a connection may take to say its first byte.
const FIRST_BYTE: Duration = Duration::from_secs(5);
/// Connections that have not said it yet; one more is closed.
const UNDECIDED_MAX: usize = 1024;
/// Connections on their way to gRPC.
const TO_GRPC: usize = 64;
/// The pause after a connection could not be accepted: as a rule there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(50);

/// Takes connections until `stop`; answers those of gRPC. Without `frames` all are gRPC's.
pub fn open(
    listener: TcpListener,
    frames: Option<Arc<Frames>>,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<TcpStream>> {
    let (to_grpc, grpc) = mpsc::channel(TO_GRPC);
    tokio::spawn(async move {
        let undecided = Arc::new(Semaphore::new(UNDECIDED_MAX));
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "accept a connection");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Ok(seat) = Arc::clone(&undecided).try_acquire_owned() else {
                tracing::warn!("too many connections that say nothing");
                continue;
            };
            let (to_grpc, frames, stop) = (to_grpc.clone(), frames.clone(), stop.clone());
            tokio::spawn(async move {
                let sorted = timeout(FIRST_BYTE, sort(stream, frames.is_some()));
                let Some(sorted) = stop.run_until_cancelled(sorted).await else { return };
                match (sorted, frames) {
                    (Ok(Ok((stream, true))), Some(frames)) => {
                        drop(seat);
                        let (reader, writer) = stream.into_split();
                        frames.serve(reader, writer).await;
                    }
                    // The server is gone when nobody takes it.
                    (Ok(Ok((stream, _))), _) => drop(to_grpc.send(Ok(stream)).await),
                    (Ok(Err(error)), _) => {
                        tracing::debug!(%error, "a connection broke before it said anything")
                    }
                    (Err(_), _) => tracing::debug!("a connection said nothing"),
                }
            });
        }
    });
    ReceiverStream::new(grpc)
}

/// The connection, and whether it speaks frames.
async fn sort(stream: TcpStream, frames: bool) -> io::Result<(TcpStream, bool)> {
    // Without it a request over one segment waits 40 ms.
    stream.set_nodelay(true)?;
    let mut first = [0; 1];
    let speaks_frames = frames && stream.peek(&mut first).await? == 1 && MAGIC.first() == first.first();
    Ok((stream, speaks_frames))
}

/// Listens on the unix socket in `dir`, which is this process's alone, until `stop`. Answers where it
/// is; `None`, and a line in the log, when that cannot be: callers then come by TCP.
pub fn socket(dir: &Path) -> Option<(UnixListener, PathBuf)> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::path::absolute(dir).ok()?.join(SOCKET_NAME);
    if path.as_os_str().as_bytes().len() > SOCKET_BYTES_MAX {
        tracing::info!(path = %path.display(), "no unix socket: its path is too long");
        return None;
    }
    // One that a killed process left is in the way.
    let _ = std::fs::remove_file(&path);
    match UnixListener::bind(&path) {
        Ok(listener) => Some((listener, path)),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "no unix socket");
            None
        }
    }
}

impl Frames {
    /// Takes callers on this machine until the node stops.
    pub async fn serve_socket(self: Arc<Self>, listener: UnixListener) {
        // The node waits for its end: then the socket is gone too.
        let _counted = self.counted();
        let stop = self.stop().clone();
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, _)) => {
                    let (reader, writer) = stream.into_split();
                    let frames = Arc::clone(&self);
                    tokio::spawn(async move { frames.serve(reader, writer).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept a connection on the unix socket");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        if let Some(path) = self.socket_path() {
            // The next start removes it otherwise.
            let _ = std::fs::remove_file(path);
        }
    }
}
