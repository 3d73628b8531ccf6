//! [`Frames`]: framed connections of one node, and the life of one of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cairn_proto::frames::{
    Frame, HELLO_BYTES, Hello, HelloError, Inlet, Kind, Offer, Outlet, Refusal, Welcome, write,
};
use cairn_types::limits::PROTOCOL_VERSION;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::calls::Calls;
use crate::service::DataService;

/// Framed connections at once.
const CONNECTIONS_MAX: usize = 1024;
/// How long a caller may take to say its hello, and to take its welcome.
const HELLO: Duration = Duration::from_secs(2);
/// How often a connection is looked at, and after how many looks without a byte it is closed: 60 s.
/// Callers with streams ask every few seconds whether it lives.
const LOOK: Duration = Duration::from_secs(10);
const SILENT_MAX: u32 = 6;
/// How long calls may take to end, and then their answers to be written, when the node stops.
const DRAIN: Duration = Duration::from_millis(500);

/// The framed connections of a node.
pub struct Frames {
    service: DataService,
    socket: Option<PathBuf>,
    seats: Arc<Semaphore>,
    stop: CancellationToken,
    connections: TaskTracker,
}

impl Frames {
    /// Callers on this machine are told of the `socket`.
    #[must_use]
    pub fn new(service: DataService, socket: Option<PathBuf>, stop: CancellationToken) -> Arc<Self> {
        let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Arc::new(Self { service, socket, seats, stop, connections: TaskTracker::new() })
    }

    pub(super) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    pub(super) fn counted(&self) -> TaskTrackerToken {
        self.connections.token()
    }

    pub(super) fn socket_path(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// Waits until no connection is left, once the node stops.
    pub async fn ended(&self) {
        self.connections.close();
        self.connections.wait().await;
    }

    /// Serves one connection until its end.
    pub async fn serve<R, W>(&self, mut reader: R, mut writer: W)
    where
        R: AsyncRead + Unpin + Send,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let _counted = self.counted();
        let greeted = timeout(HELLO, async {
            let hello = self.hello(&mut reader).await?;
            let welcome = self.welcome(hello);
            let refused = welcome.offer.as_ref().err().copied();
            writer.write_all(&welcome.encode()).await?;
            Ok::<_, std::io::Error>(refused)
        });
        let refused = match greeted.await {
            Ok(Ok(refused)) => refused,
            Ok(Err(error)) => return tracing::debug!(%error, "a framed connection broke in its hello"),
            Err(_) => return tracing::debug!("a framed connection was too slow to say its hello"),
        };
        if let Some(refused) = refused {
            metrics::counter!("cairn_data_frames_refused_total").increment(1);
            return tracing::info!(%refused, "refuse a framed connection");
        }
        let Ok(_seat) = Arc::clone(&self.seats).try_acquire_owned() else { return };
        metrics::gauge!("cairn_data_frames_connections").increment(1);
        self.converse(reader, writer).await;
        metrics::gauge!("cairn_data_frames_connections").decrement(1);
    }

    async fn hello(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
    ) -> std::io::Result<Result<Hello, HelloError>> {
        let mut bytes = [0; HELLO_BYTES];
        reader.read_exact(&mut bytes).await?;
        Ok(Hello::decode(&bytes))
    }

    fn welcome(&self, hello: Result<Hello, HelloError>) -> Welcome {
        let node = self.service.node();
        let incarnation = node.context.store.incarnation();
        let checked = match hello {
            Ok(hello) => hello.check(node.cluster, node.id, incarnation),
            Err(HelloError::Refused(refusal)) => Err(refusal),
            Err(HelloError::Foreign | HelloError::Malformed) => Err(Refusal::Malformed),
        };
        let version = PROTOCOL_VERSION as u16;
        let checked = match checked {
            Ok(_) if self.stop.is_cancelled() => Err(Refusal::Stopping),
            Ok(_) if self.seats.available_permits() == 0 => Err(Refusal::Busy),
            checked => checked,
        };
        match checked {
            Ok(version) => {
                let socket = self.socket.clone().unwrap_or_default();
                let offer = Offer { node: node.id, incarnation, boot_id: node.boot_id, socket };
                Welcome { version, offer: Ok(offer) }
            }
            Err(refusal) => Welcome { version, offer: Err(refusal) },
        }
    }

    async fn converse<R, W>(&self, reader: R, writer: W)
    where
        R: AsyncRead + Unpin + Send,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let (outlet, queue) = Outlet::new();
        let mut writing = AbortOnDropHandle::new(tokio::spawn(write(queue, writer)));
        let mut calls = Calls::new(self.service.clone(), outlet);
        let mut inlet = Inlet::new(reader);
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent = 0;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = calls.ended() => {}
                frame = inlet.next() => match frame {
                    Ok(Some(frame)) => {
                        silent = 0;
                        if let Err(error) = take(&mut calls, frame).await {
                            metrics::counter!("cairn_data_frames_refused_total").increment(1);
                            return tracing::warn!(%error, "close a framed connection");
                        }
                    }
                    Ok(None) => return,
                    Err(error) => return tracing::info!(%error, "a framed connection is over"),
                },
                _ = &mut writing => return tracing::debug!("a framed connection takes no more answers"),
                _ = looks.tick() => {
                    silent += 1;
                    if silent > SILENT_MAX {
                        return tracing::debug!("a framed connection is silent");
                    }
                }
            }
        }
        // The node stops: what is answered is still said.
        if timeout(DRAIN, calls.all_ended()).await.is_err() {
            tracing::debug!("calls of a framed connection are cut off");
        }
        drop(calls);
        // Whoever does not take it finds the connection broken.
        let _ = timeout(DRAIN, writing).await;
    }
}

async fn take(calls: &mut Calls, frame: Frame) -> Result<(), cairn_proto::frames::FrameError> {
    match frame.kind {
        Kind::Ping => {
            calls.pong();
            Ok(())
        }
        Kind::Pong => Ok(()),
        Kind::End => {
            calls.close(frame.stream);
            Ok(())
        }
        Kind::Cancel => {
            calls.cancel(frame.stream);
            Ok(())
        }
        _ => calls.take(frame).await,
    }
}
