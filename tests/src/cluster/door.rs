//! [`Door`]: the address at which a server is reached leads through this process, where the way can be
//! cut, or made slow, for some of those who come.
//!
//! All processes of a test cluster share one address, so who comes is told by the socket: `/proc` says
//! which process has it open.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// Bytes carried at once.
const PIECE_BYTES: usize = 64 << 10;

/// For whom the way is cut, and for whom it is slow.
#[derive(Clone, Debug, Default)]
struct Rules {
    cut: BTreeSet<u32>,
    slow: BTreeMap<u32, Duration>,
}

/// The way to one server. Everything on it ends when this is dropped.
#[derive(Debug)]
pub struct Door {
    rules: watch::Sender<Rules>,
    _task: AbortOnDropHandle<()>,
}

impl Door {
    /// Listens at `address` and leads to `server`.
    ///
    /// # Errors
    /// When the address is taken.
    pub(super) async fn open(address: &str, server: String) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let (rules, seen) = watch::channel(Rules::default());
        let task = AbortOnDropHandle::new(tokio::spawn(serve(listener, server, seen)));
        Ok(Self { rules, _task: task })
    }

    /// From now on nothing passes, in either direction, on connections that these processes made or
    /// will make. Nothing is refused either: it is silent there.
    pub fn cut(&self, pids: &[u32]) {
        self.rules.send_modify(|rules| rules.cut.extend(pids));
    }

    /// From now on whatever passes between these processes and the server waits so long first, in
    /// either direction.
    pub fn slow(&self, pids: &[u32], by: Duration) {
        self.rules.send_modify(|rules| rules.slow.extend(pids.iter().map(|pid| (*pid, by))));
    }

    /// Everything passes again; what waited goes on.
    pub fn heal(&self) {
        self.rules.send_modify(|rules| *rules = Rules::default());
    }
}

async fn serve(listener: TcpListener, server: String, rules: watch::Receiver<Rules>) {
    let mut carried = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A connection that is gone before it is taken is nothing to carry.
                if let Ok((client, from)) = accepted {
                    carried.spawn(carry(client, from, server.clone(), rules.clone()));
                }
            }
            Some(_) = carried.join_next() => {}
        }
    }
}

/// Carries one connection until either side ends it.
async fn carry(client: TcpStream, from: SocketAddr, server: String, rules: watch::Receiver<Rules>) {
    let Ok(here) = client.local_addr() else { return };
    let looked = tokio::task::spawn_blocking(move || owner(from.port(), here.port())).await;
    let pid = looked.ok().flatten();
    let Ok(server) = TcpStream::connect(&server).await else { return };
    for side in [&client, &server] {
        // It only makes it slower.
        let _ = side.set_nodelay(true);
    }
    let (client_says, to_client) = client.into_split();
    let (server_says, to_server) = server.into_split();
    tokio::select! {
        () = pass(client_says, to_server, rules.clone(), pid) => {}
        () = pass(server_says, to_client, rules, pid) => {}
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut rules: watch::Receiver<Rules>,
    pid: Option<u32>,
) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        let open = rules.wait_for(|rules| pid.is_none_or(|pid| !rules.cut.contains(&pid))).await;
        let Ok(open) = open.map(|rules| pid.and_then(|pid| rules.slow.get(&pid).copied())) else { return };
        if let Some(by) = open {
            tokio::time::sleep(by).await;
        }
        if to.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
}

/// The process that has the socket of this connection open, by the ports of its two ends.
fn owner(port: u16, to: u16) -> Option<u32> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = table.lines().skip(1).find_map(|line| inode_of(line, port, to))?;
    let wanted = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
        open.filter_map(|fd| std::fs::read_link(fd.path()).ok())
            .any(|link| link.as_os_str() == wanted.as_str())
    })
}

/// The inode of a line of `/proc/net/tcp` that goes from one port to the other.
fn inode_of(line: &str, port: u16, to: u16) -> Option<u64> {
    let mut fields = line.split_whitespace().skip(1);
    let port_of = |address: &str| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok();
    let ends = (port_of(fields.next()?)?, port_of(fields.next()?)?);
    if ends == (port, to) { fields.nth(6)?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3_server::free_ports;

    const SOON: Duration = Duration::from_secs(10);
    const A_WHILE: Duration = Duration::from_millis(100);

    /// An echo behind a door, and a connection through it.
    async fn echo() -> (Door, TcpStream) {
        let ports = free_ports(1).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await.unwrap();
        });
        let address = format!("127.0.0.1:{}", ports[0]);
        let door = Door::open(&address, server).await.unwrap();
        (door, TcpStream::connect(&address).await.unwrap())
    }

    async fn answered(stream: &mut TcpStream, within: Duration) -> Option<u8> {
        tokio::time::timeout(within, stream.read_u8()).await.ok()?.ok()
    }

    #[tokio::test]
    async fn what_is_cut_is_silent_and_goes_on_when_it_is_healed() {
        let (door, mut stream) = echo().await;
        stream.write_u8(1).await.unwrap();
        assert_eq!(answered(&mut stream, SOON).await, Some(1));
        door.cut(&[std::process::id()]);
        stream.write_u8(2).await.unwrap();
        assert_eq!(answered(&mut stream, A_WHILE).await, None);
        door.heal();
        assert_eq!(answered(&mut stream, SOON).await, Some(2));
    }

    #[tokio::test]
    async fn others_pass_and_what_is_slow_comes_late() {
        let (door, mut stream) = echo().await;
        door.cut(&[1]);
        door.slow(&[std::process::id()], A_WHILE);
        let began = tokio::time::Instant::now();
        stream.write_u8(3).await.unwrap();
        assert_eq!(answered(&mut stream, SOON).await, Some(3));
        assert!(began.elapsed() >= A_WHILE);
    }

    #[test]
    fn a_line_of_the_kernels_table_is_read() {
        let line = "   3: 0100007F:9C40 0100007F:1BBC 01 00000000:00000000 00:00000000 00000000     0        0 77123 1 0000000000000000 20 4 30 10 -1";
        assert_eq!(inode_of(line, 40000, 7100), Some(77123));
        assert_eq!(inode_of(line, 7100, 40000), None);
    }
}
