//! Connections: accepted while the link is up, cut or silenced with it.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::Shared;
use super::exchange::Exchange;
use super::fault::Link;

/// Connections served at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1024;

/// Serves until its task is aborted.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let Ok(address) = listener.local_addr() else { return };
    let mut listener = Some(listener);
    let mut link = shared.link.subscribe();
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let state = *link.borrow_and_update();
        if state == Link::Refused {
            // Only a closed port refuses.
            listener = None;
            if link.changed().await.is_err() {
                return;
            }
            continue;
        }
        let open = match listener.take() {
            Some(open) => open,
            None => bind(address).await,
        };
        tokio::select! {
            accepted = accept(&open, &slots) => {
                if let Ok((stream, slot)) = accepted {
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move {
                        serve_connection(stream, shared).await;
                        drop(slot);
                    });
                }
            }
            _ = link.changed() => {}
        }
        listener = Some(open);
    }
}

/// Binds our port again; it is ours alone as far as tests can make sure, so this ends.
async fn bind(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, slot))
}

/// Serves one connection until it ends by itself or the link goes down.
async fn serve_connection(stream: TcpStream, shared: Arc<Shared>) {
    let mut link = shared.link.subscribe();
    let exchange = Exchange::new(shared);
    let service = service_fn(move |request| exchange.clone().answer(request));
    let mut connection = Box::pin(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .preserve_header_case(true)
            .serve_connection(TokioIo::new(stream), service),
    );
    loop {
        let state = *link.borrow_and_update();
        // A connection's error is the fault that was asked for, or the client going away.
        match state {
            Link::Refused => return,
            Link::Silent => ends_or_changes(pending::<Infallible>(), &mut link).await,
            Link::Up => {
                if ends_or_changes(&mut connection, &mut link).await {
                    return;
                }
                continue;
            }
        };
    }
}

/// True if the future ended, false if the link changed before.
async fn ends_or_changes<F: Future>(future: F, link: &mut watch::Receiver<Link>) -> bool {
    tokio::select! {
        _ = future => true,
        _ = link.changed() => false,
    }
}
