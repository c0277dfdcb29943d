//! The server itself: its port, its connections, and its end.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;

use super::guard::Rate;
use super::meters::Meters;
use super::router::router;
use super::run::Run;
use super::shared::{Limits, Peer, Shared};
use crate::error::{Error, Failure, Result};
use crate::host::Host;

/// Time in which a client must take some of an answer.
const TAKEN: Duration = Duration::from_secs(30);

/// Time for what has been asked to be answered, once the server is to end.
const ENDING: Duration = Duration::from_secs(30);

/// Time for threads to end the step that they are at.
const STEP: Duration = Duration::from_secs(5);

/// How the server listens, and what it allows.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Name or address that it listens on.
    pub(crate) host: String,
    /// Port; 0 for any that is free.
    pub(crate) port: u16,
    /// What each request must bring along.
    pub(crate) token: Option<String>,
    /// Requests a second of each address.
    pub(crate) rate: Option<f64>,
    /// Requests that may wait for a run.
    pub(crate) queue: usize,
    /// Open connections; further ones wait.
    pub(crate) connections: usize,
    /// What a request may ask.
    pub(crate) limits: Limits,
}

impl Options {
    /// Takes the port, before anything else is done.
    ///
    /// # Errors
    /// `CannotCreate` when it is taken or not allowed.
    pub(crate) fn listen(&self) -> Result<TcpListener> {
        let Options { host, port, .. } = self;
        let failed = |e: io::Error| {
            let what = format!("cannot listen on {host}:{port}: {e}. Choose another port with --port, or another address with --host");
            Error::CannotCreate(Failure::new(what, e))
        };
        let listener = TcpListener::bind((host.as_str(), *port)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(listener)
    }
}

/// Serves runs until `stop` is no longer 0. Then nothing new is taken, and what has been asked is answered.
///
/// # Errors
/// `Io` when the system refuses threads or sockets.
pub(crate) fn serve(host: &Host, listener: TcpListener, runs: Vec<Run>, options: Options, stop: &Arc<AtomicUsize>) -> Result<()> {
    let failed = |e: io::Error| Error::Io(Failure::new(format!("the server: {e}"), e));
    let address = listener.local_addr().map_err(failed)?;
    if options.token.is_none() && !address.ip().is_loopback() {
        host.note(&format!("WARNING: whoever reaches {address} may ask: there is no token. --token-file gives one"));
    }
    let meters = Arc::new(Meters::new());
    let (mut served, mut threads) = (vec![], vec![]);
    for run in runs {
        let (run, started) = run.start(options.queue, &meters)?;
        served.push(run);
        threads.extend(started);
    }
    let names = served.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ");
    host.say(&format!("serving     {names}\nlistening   http://{address}"));
    let Options { token, rate, limits, connections, .. } = options;
    let shared = Arc::new(Shared { runs: served, meters, token, rate: rate.map(Rate::new), limits, ending: watch::Sender::new(false) });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?;
    let left = runtime.block_on(accept(listener, &shared, connections, stop)).map_err(failed)?;
    // What is still under way ends here, and so nobody can ask any more: the threads end with what they have.
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(shared);
    // They look for that between two steps, which do not take long; a thread that hangs in a driver ends with the process.
    let patience = Instant::now() + STEP;
    while threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(10));
    }
    host.say(if left { "ended; some answers were not computed or not taken in time" } else { "ended; all that was asked is answered" });
    Ok(())
}

/// Takes connections until the server is to end, and waits for their answers. Gives true if some are left.
async fn accept(listener: TcpListener, shared: &Arc<Shared>, connections: usize, stop: &AtomicUsize) -> io::Result<bool> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (graceful, room, router) = (GracefulShutdown::new(), Arc::new(Semaphore::new(connections)), router(shared.clone()));
    loop {
        let next = async {
            // Those beyond wait in the system's queue.
            let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((listener.accept().await?, permit))
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            () = stopped(stop) => break,
        };
        // A client that has gone again, or no more files for this process: others may go on.
        let Ok(((stream, address), permit)) = accepted else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        let peer = Peer { address: address.ip(), asked: Arc::default() };
        let connection = graceful.watch(connection(stream, &peer, &router, shared.limits.time));
        let shared = shared.clone();
        tokio::spawn(async move {
            shared.meters.connections.inc();
            tokio::select! {
                // How a connection ends is its client's business.
                _ = connection => {}
                () = ended_unasked(&shared, &peer) => {}
            }
            shared.meters.connections.dec();
            drop(permit);
        });
    }
    drop(listener);
    shared.ending.send_replace(true);
    Ok(timeout(ENDING, graceful.shutdown()).await.is_err())
}

type Connection = http1::Connection<TokioIo<std::pin::Pin<Box<TimeoutStream<TcpStream>>>>, TowerToHyperService<Router>>;

/// A connection with the time for the head of a request to arrive. Slow heads and slow readers end it; slow bodies end
/// with a refusal.
fn connection(stream: TcpStream, peer: &Peer, router: &Router, head: Duration) -> Connection {
    // An answer is written at once.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(TAKEN));
    let service = TowerToHyperService::new(router.clone().layer(Extension(peer.clone())));
    http1::Builder::new().timer(TokioTimer::new()).header_read_timeout(head).serve_connection(TokioIo::new(Box::pin(stream)), service)
}

/// Waits for the end of the server, for who has asked nothing until then.
async fn ended_unasked(shared: &Shared, peer: &Peer) {
    let mut ending = shared.ending.subscribe();
    // It lasts as long as `shared`.
    let _ = ending.wait_for(|ending| *ending).await;
    if peer.asked.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// Waits for a signal to have come.
async fn stopped(stop: &AtomicUsize) {
    while stop.load(Ordering::Relaxed) == 0 {
        sleep(Duration::from_millis(50)).await;
    }
}
