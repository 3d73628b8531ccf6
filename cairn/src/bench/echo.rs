//! A bare tonic echo server and client: what a gRPC call costs here with nothing behind it.

use std::pin::Pin;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_proto::v1::echo_client::EchoClient;
use cairn_proto::v1::echo_server::{Echo, EchoServer};
use cairn_proto::v1::{EchoMessage, FloodRequest};
use cairn_types::limits::MESSAGE_BYTES_MAX;
use futures::{Stream, StreamExt, stream};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

use super::measure::{Recorder, Run};
use crate::exit::CliError;

const FLOOD_FRAME_BYTES: u64 = 1 << 20;
/// How long its server may take to say its address.
const START: Duration = Duration::from_secs(10);

struct Service;

#[tonic::async_trait]
impl Echo for Service {
    async fn call(&self, request: Request<EchoMessage>) -> Result<Response<EchoMessage>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    type FloodStream = Pin<Box<dyn Stream<Item = Result<EchoMessage, Status>> + Send>>;

    async fn flood(&self, request: Request<FloodRequest>) -> Result<Response<Self::FloodStream>, Status> {
        let FloodRequest { count, bytes } = request.into_inner();
        let length = usize::try_from(bytes).ok().filter(|b| *b <= MESSAGE_BYTES_MAX);
        let payload = Bytes::from(vec![7; length.ok_or_else(|| Status::invalid_argument("bytes"))?]);
        let frames = stream::iter(0..count).map(move |_| Ok(EchoMessage { payload: payload.clone() }));
        Ok(Response::new(Box::pin(frames)))
    }
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CliError {
    CliError::io("run", "the echo server", std::io::Error::other(error))
}

/// Serves until standard input ends; says its address on a line of its own first.
pub async fn serve() -> Result<(), CliError> {
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).map_err(failed)?.with_nodelay(Some(true));
    println!("{}", incoming.local_addr().map_err(failed)?);
    let service = EchoServer::new(Service).max_decoding_message_size(MESSAGE_BYTES_MAX + 1024);
    let ended = async {
        let mut rest = Vec::new();
        // However it ends, whoever started this is gone.
        let _ = tokio::io::stdin().read_to_end(&mut rest).await;
    };
    let server = Server::builder().add_service(service);
    server.serve_with_incoming_shutdown(incoming, ended).await.map_err(failed)
}

/// Starts an echo server: a process of its own, as what it is compared with has.
fn start() -> Result<Child, CliError> {
    let own = std::env::current_exe().map_err(|e| CliError::io("find", "this binary", e))?;
    let mut command = Command::new(own);
    command.args(["bench", "--serve-echo"]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    command.spawn().map_err(failed)
}

/// Runs `measure` against an echo server.
async fn with_server<F, Fut>(measure: F) -> Result<Run, CliError>
where
    F: FnOnce(Channel) -> Fut,
    Fut: Future<Output = Result<Run, Status>>,
{
    let mut server = start()?;
    let mut address = String::new();
    let said = server.stdout.take().ok_or_else(|| failed("it says nothing"))?;
    tokio::time::timeout(START, BufReader::new(said).read_line(&mut address))
        .await
        .map_err(failed)?
        .map_err(failed)?;
    let endpoint = Endpoint::from_shared(format!("http://{}", address.trim())).map_err(failed)?;
    let channel = endpoint
        .tcp_nodelay(true)
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(32 << 20)
        .connect()
        .await
        .map_err(failed)?;
    let run = measure(channel).await.map_err(failed)?;
    server.kill().await.map_err(failed)?;
    Ok(run)
}

/// Echoes of `bytes`, `at_once` in flight, for `seconds`.
pub async fn calls(bytes: usize, at_once: usize, seconds: f64) -> Result<Run, CliError> {
    with_server(|channel| async move {
        let mut total = Recorder::start();
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        let payload = Bytes::from(vec![7; bytes]);
        let mut tasks = JoinSet::new();
        for _ in 0..at_once {
            let (mut client, payload) = (EchoClient::new(channel.clone()), payload.clone());
            tasks.spawn(async move {
                let mut own = Recorder::start();
                while Instant::now() < until {
                    let started = Instant::now();
                    client.call(EchoMessage { payload: payload.clone() }).await?;
                    own.record(started.elapsed(), 1.0);
                }
                Ok::<_, Status>(own)
            });
        }
        while let Some(own) = tasks.join_next().await {
            total.merge(&own.map_err(|e| Status::internal(e.to_string()))??);
        }
        Ok(total.finish())
    })
    .await
}

/// One stream of 1 MiB frames; the rate is in 10⁶ bytes a second.
pub async fn flood(bytes: u64) -> Result<Run, CliError> {
    with_server(|channel| async move {
        let mut client = EchoClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX + 1024);
        let request = FloodRequest { count: bytes.div_ceil(FLOOD_FRAME_BYTES), bytes: FLOOD_FRAME_BYTES };
        let mut recorder = Recorder::start();
        let mut frames = client.flood(request).await?.into_inner();
        let mut last = Instant::now();
        while let Some(frame) = frames.message().await? {
            recorder.record(last.elapsed(), frame.payload.len() as f64 / 1e6);
            last = Instant::now();
        }
        Ok(recorder.finish())
    })
    .await
}
