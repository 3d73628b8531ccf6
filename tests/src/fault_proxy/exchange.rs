//! One request and its answer: the rules are asked, the request is forwarded, the answer comes back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, TRANSFER_ENCODING};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Shared;
use super::body::{CutHere, Harm, ProxyBody};
use super::fault::Fault;

/// An upstream connection idle for longer is not used again: the server may be closing it just now,
/// which would be a fault nobody asked for.
const IDLE_MAX: Duration = Duration::from_secs(2);

const SLOW_DOWN: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>SlowDown</Code>\
    <Message>Please reduce your request rate.</Message><RequestId>fault-proxy</RequestId></Error>";
const INTERNAL_ERROR: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>InternalError</Code>\
    <Message>We encountered an internal error. Please try again.</Message>\
    <RequestId>fault-proxy</RequestId></Error>";

/// The body of a `403`.
fn denied(code: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
         <Message>Refused by the fault proxy.</Message><RequestId>fault-proxy</RequestId></Error>"
    )
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Answer = Result<Response<ProxyBody>, BoxError>;

/// An upstream connection waiting for the next request.
#[derive(Debug)]
struct Idle {
    sender: SendRequest<ProxyBody>,
    since: Instant,
}

/// Answers the requests of one client connection, one after the other.
///
/// An error from [`answer`](Self::answer) makes hyper cut the client's connection.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    shared: Arc<Shared>,
    /// Guards that an upstream connection is used by one request at a time: it is taken out for the
    /// exchange and put back after. Never held across an await.
    idle: Arc<Mutex<Option<Idle>>>,
}

impl Exchange {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, idle: Arc::default() }
    }

    /// Does with a request what the rules say.
    pub(super) async fn answer(self, request: Request<Incoming>) -> Answer {
        let mut changes = self.shared.rules_changed.subscribe();
        let verdict = self.shared.rules().judge(request.method(), request.uri());
        self.shared.log().arrived(request.method(), request.uri(), verdict.fault.is_some());
        if !verdict.latency.is_zero() {
            tokio::time::sleep(verdict.latency).await;
        }
        match verdict.fault {
            None | Some(Fault::Latency(_)) => self.forward(request, Harm::None, Harm::None).await,
            Some(Fault::SlowDown) => refuse(request, StatusCode::SERVICE_UNAVAILABLE, SLOW_DOWN).await,
            Some(Fault::InternalError) => {
                refuse(request, StatusCode::INTERNAL_SERVER_ERROR, INTERNAL_ERROR).await
            }
            Some(Fault::Denied { code }) => refuse(request, StatusCode::FORBIDDEN, denied(code)).await,
            Some(Fault::Cut) => Err(CutHere.into()),
            Some(Fault::BlackHole) => {
                // Hyper drops us when the client goes away.
                let _ = changes.changed().await;
                Err(CutHere.into())
            }
            Some(Fault::LoseAnswer) => {
                let answer = self.forward(request, Harm::None, Harm::None).await?;
                // The server has done its work when its answer is complete.
                drain(answer.into_body()).await?;
                Err(CutHere.into())
            }
            Some(Fault::TruncateAnswer { after_bytes }) => {
                self.forward(request, Harm::None, Harm::Truncate(after_bytes)).await
            }
            Some(Fault::CorruptAnswer { at_byte }) => {
                self.forward(request, Harm::None, Harm::Corrupt(at_byte)).await
            }
            Some(Fault::TruncateRequest { after_bytes }) => {
                self.forward(request, Harm::Truncate(after_bytes), Harm::None).await
            }
            Some(Fault::CorruptRequest { at_byte }) => {
                self.forward(request, Harm::Corrupt(at_byte), Harm::None).await
            }
        }
    }

    async fn forward(&self, request: Request<Incoming>, upward: Harm, downward: Harm) -> Answer {
        let (mut head, body) = request.into_parts();
        remove_hop_headers(&mut head.headers);
        let mut sender = self.upstream().await?;
        self.shared.log().forwarded();
        let request = Request::from_parts(head, ProxyBody::streamed(body, upward));
        let answer = sender.send_request(request).await?;
        self.put_back(sender);
        let (mut head, body) = answer.into_parts();
        remove_hop_headers(&mut head.headers);
        Ok(Response::from_parts(head, ProxyBody::streamed(body, downward)))
    }

    /// The connection of the last exchange if it can be used again, else a new one.
    async fn upstream(&self) -> Result<SendRequest<ProxyBody>, BoxError> {
        if let Some(mut idle) = self.take_idle()
            && idle.since.elapsed() < IDLE_MAX
            && idle.sender.ready().await.is_ok()
        {
            return Ok(idle.sender);
        }
        let stream = TcpStream::connect(&self.shared.upstream).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            http1::Builder::new().preserve_header_case(true).handshake(TokioIo::new(stream)).await?;
        // Ends with the sender or the server; an error shows in the exchange.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn take_idle(&self) -> Option<Idle> {
        self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
    }

    fn put_back(&self, sender: SendRequest<ProxyBody>) {
        let idle = Idle { sender, since: Instant::now() };
        *self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(idle);
    }
}

/// Takes the request's body, so that the client can read the answer, and refuses it.
async fn refuse(request: Request<Incoming>, status: StatusCode, text: impl Into<Bytes>) -> Answer {
    drain(request.into_body()).await?;
    let answer = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/xml")
        .header("x-amz-request-id", "fault-proxy");
    Ok(answer.body(ProxyBody::made(text))?)
}

/// Reads a body to its end and drops it.
async fn drain<B>(mut body: B) -> Result<(), BoxError>
where
    B: hyper::body::Body + Unpin,
    B::Error: Into<BoxError>,
{
    while let Some(frame) = body.frame().await {
        frame.map_err(Into::into)?;
    }
    Ok(())
}

/// Removes the headers that are about one connection only; hyper writes its own.
fn remove_hop_headers(headers: &mut HeaderMap) {
    headers.remove(CONNECTION);
    headers.remove(HeaderName::from_static("keep-alive"));
    headers.remove(TRANSFER_ENCODING);
}
