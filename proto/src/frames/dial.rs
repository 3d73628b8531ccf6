//! Making a framed connection: over TCP to the address that gRPC has too, then over the node's unix
//! socket where it is on this machine.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tonic::Status;

use super::caller::Caller;
use super::hello::{Hello, HelloError, Offer, PeerKind, WELCOME_BYTES, Welcome};

/// How long a connection may take to be made, and then to be answered.
const CONNECT: Duration = Duration::from_millis(1_000);
/// The same for a unix socket.
const CONNECT_SOCKET: Duration = Duration::from_millis(200);

/// How long a node may be silent until it is asked whether it lives: as gRPC's connections of each have it.
fn quiet(kind: PeerKind) -> Duration {
    match kind {
        PeerKind::Client => Duration::from_secs(5),
        PeerKind::Node => Duration::from_secs(2),
    }
}

/// Why there is no framed connection.
#[derive(Debug)]
pub(super) enum NotDialled {
    /// Nobody is there, or nobody answers: gRPC would do no better.
    Unreachable(Status),
    /// Somebody is there who does not take it: gRPC may do, or says why not.
    NotSpoken(HelloError),
}

/// Dials `address` (`host:port`). With `socket`, a node on this machine is reached by its unix socket.
pub(super) async fn dial(address: &str, hello: Hello, socket: bool) -> Result<Caller, NotDialled> {
    let unreachable = |error: std::io::Error| NotDialled::Unreachable(Status::unavailable(error.to_string()));
    let silent = |_| NotDialled::Unreachable(Status::deadline_exceeded("no connection in time"));
    let mut tcp =
        timeout(CONNECT, TcpStream::connect(address)).await.map_err(silent)?.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    let offer = greet(&mut tcp, hello, CONNECT).await?;
    if socket && is_here(&offer) {
        let same = Hello { node: offer.node, incarnation: offer.incarnation, ..hello };
        if let Some(caller) = dial_socket(&offer.socket, same).await {
            return Ok(caller);
        }
    }
    let (reader, writer) = tcp.into_split();
    Ok(Caller::start(reader, writer, offer, false, quiet(hello.kind)))
}

/// Over a socket on this machine; `None` when it leads nowhere, or to somebody else.
async fn dial_socket(path: &Path, hello: Hello) -> Option<Caller> {
    let mut unix = timeout(CONNECT_SOCKET, UnixStream::connect(path)).await.ok()?.ok()?;
    match greet(&mut unix, hello, CONNECT_SOCKET).await {
        Ok(offer) => {
            let (reader, writer) = unix.into_split();
            Some(Caller::start(reader, writer, offer, true, quiet(hello.kind)))
        }
        Err(error) => {
            tracing::debug!(path = %path.display(), ?error, "a node's socket was not taken");
            None
        }
    }
}

async fn greet<S>(stream: &mut S, hello: Hello, within: Duration) -> Result<Offer, NotDialled>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let greeted = async {
        stream.write_all(&hello.encode()).await?;
        let mut welcome = [0; WELCOME_BYTES];
        stream.read_exact(&mut welcome).await?;
        Ok::<_, std::io::Error>(welcome)
    };
    let welcome = match timeout(within, greeted).await {
        Ok(Ok(welcome)) => welcome,
        // It closed: what HTTP/2 does with such a beginning.
        Ok(Err(_)) => return Err(NotDialled::NotSpoken(HelloError::Foreign)),
        Err(_) => return Err(NotDialled::Unreachable(Status::deadline_exceeded("no welcome in time"))),
    };
    let welcome = Welcome::decode(&welcome).map_err(NotDialled::NotSpoken)?;
    welcome.offer.map_err(|refusal| NotDialled::NotSpoken(refusal.into()))
}

/// True when the node runs on this machine, in the boot that it says, and has a socket.
fn is_here(offer: &Offer) -> bool {
    !offer.socket.as_os_str().is_empty() && offer.boot_id != [0; 16] && offer.boot_id == *boot_id()
}

/// This machine's boot id; all zero where the system gives none.
fn boot_id() -> &'static [u8; 16] {
    static BOOT_ID: OnceLock<[u8; 16]> = OnceLock::new();
    BOOT_ID.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        digits.parse::<cairn_types::ClusterId>().map_or([0; 16], |id| id.0)
    })
}
