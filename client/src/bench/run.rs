//! The loop: each client sends, waits, counts, sends again.
//!
//! Clients are tasks on one single-threaded runtime per thread, so nothing between a reply and the next request
//! takes a lock or crosses a core. The measured window is cut out of the run by time: what completes inside it
//! counts, whatever started before.

use std::{
    fmt,
    future::Future,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{RngCore, SeedableRng, rngs::SmallRng};

use super::{plan::Plan, tally::Tally};

/// How long a client waits before it connects again after a failure: a node that is down must not be hammered
/// by a thousand loops.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// The most clients that a load uses: enough to fill every batch.
const LOADERS_MAX: usize = 64;
/// How often in a row a key of a load is tried.
const LOAD_ATTEMPTS: usize = 3;

/// An operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Write a key.
    Put,
    /// Read a key.
    Get,
}

impl Kind {
    /// Both, in the order of reports.
    pub const ALL: [Kind; 2] = [Kind::Put, Kind::Get];

    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Put => "put",
            Kind::Get => "get",
        }
    }
}

/// Why an operation did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// No connection.
    Connect,
    /// The connection ended or broke before the reply was whole.
    Reset,
    /// No reply in time.
    Timeout,
    /// The reply could not be understood.
    Protocol,
    /// An HTTP or gRPC status that is not success.
    Status(u16),
}

impl Failure {
    /// Whether the connection is of no use after this.
    fn ends_session(self) -> bool {
        !matches!(self, Failure::Status(_))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connect => f.write_str("connect"),
            Failure::Reset => f.write_str("reset"),
            Failure::Timeout => f.write_str("timeout"),
            Failure::Protocol => f.write_str("protocol"),
            Failure::Status(code) => write!(f, "status {code}"),
        }
    }
}

/// A way to speak to a cluster.
pub trait Driver: Send + Sync + 'static {
    /// One client's connection.
    type Session: Session;

    /// Connects client number `client`; `attempt` grows with each connection that it lost, so that it can go
    /// to another node.
    fn connect(
        &self,
        client: usize,
        attempt: usize,
    ) -> impl Future<Output = Result<Self::Session, Failure>> + Send;
}

/// One client's connection.
pub trait Session: Send + 'static {
    /// Performs one operation on key number `key` and waits for the whole reply. A get of an absent key succeeds.
    fn perform(&mut self, kind: Kind, key: u64)
    -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Runs the plan and returns what was counted inside the measured window, with the window's true length.
///
/// `window` is called when the window opens (`false`) and when it closes (`true`): the moments to read meters.
///
/// # Errors
/// If a thread or its runtime cannot be made.
pub fn run<D: Driver>(
    plan: &Plan,
    driver: D,
    progress: &Arc<AtomicU64>,
    mut window: impl FnMut(bool),
) -> io::Result<(Tally, Duration)> {
    let driver = Arc::new(driver);
    let opens = Instant::now() + plan.warmup;
    let closes = opens + plan.duration;
    let threads = plan.threads.clamp(1, plan.clients.max(1));
    let workers = (0..threads)
        .map(|t| {
            let clients: Vec<usize> = (t..plan.clients).step_by(threads).collect();
            let (plan, driver, progress) =
                (plan.clone(), Arc::clone(&driver), Arc::clone(progress));
            std::thread::Builder::new()
                .name(format!("bench-{t}"))
                .spawn(move || work(&plan, &driver, &clients, opens, closes, &progress))
        })
        .collect::<io::Result<Vec<_>>>()?;

    wait_until(opens);
    window(false);
    wait_until(closes);
    window(true);
    let measured = opens.elapsed().min(plan.duration);

    let mut total = Tally::default();
    for worker in workers {
        let tally =
            worker.join().map_err(|_panic| io::Error::other("a bench thread panicked"))??;
        total.add(&tally);
    }
    Ok((total, measured))
}

/// Writes every key once, in order, with the plan's clients: gets need something to find.
///
/// # Errors
/// The first failure that three attempts in a row could not get around.
pub fn load<D: Driver>(plan: &Plan, driver: D, progress: &Arc<AtomicU64>) -> io::Result<()> {
    let (driver, next) = (Arc::new(driver), Arc::new(AtomicU64::new(0)));
    runtime()?.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for client in 0..plan.clients.clamp(1, LOADERS_MAX) {
            let (plan, driver) = (plan.clone(), Arc::clone(&driver));
            let (next, progress) = (Arc::clone(&next), Arc::clone(progress));
            tasks.spawn(async move { load_share(&plan, &*driver, client, &next, &progress).await });
        }
        while let Some(done) = tasks.join_next().await {
            let done = done.map_err(io::Error::other)?;
            done.map_err(|failure| io::Error::other(format!("load keys: {failure}")))?;
        }
        Ok(())
    })
}

/// One client of a load: takes the next key that nobody has taken until there is none.
async fn load_share<D: Driver>(
    plan: &Plan,
    driver: &D,
    client: usize,
    next: &AtomicU64,
    progress: &AtomicU64,
) -> Result<(), Failure> {
    let (mut session, mut failures) = (None, 0);
    let mut key = next.fetch_add(1, Ordering::Relaxed);
    while key < plan.keys.count() {
        let put = match connect(driver, &mut session, (client, failures), plan.timeout).await {
            Ok(session) => within(plan.timeout, session.perform(Kind::Put, key)).await,
            Err(failure) => Err(failure),
        };
        match put {
            Ok(()) => {
                failures = 0;
                progress.fetch_add(1, Ordering::Relaxed);
                key = next.fetch_add(1, Ordering::Relaxed);
            }
            Err(failure) if failures + 1 == LOAD_ATTEMPTS => return Err(failure),
            Err(_) => {
                failures += 1;
                session = None;
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
        }
    }
    Ok(())
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// One thread: its clients until the window closes.
fn work<D: Driver>(
    plan: &Plan,
    driver: &Arc<D>,
    clients: &[usize],
    opens: Instant,
    closes: Instant,
    progress: &Arc<AtomicU64>,
) -> io::Result<Tally> {
    runtime()?.block_on(async {
        // One tally for all clients of the thread: a histogram is 160 KB, and the lock is never waited for.
        let tally = Arc::new(Mutex::new(Tally::default()));
        let mut tasks = tokio::task::JoinSet::new();
        for &client in clients {
            let (plan, driver) = (plan.clone(), Arc::clone(driver));
            let (progress, tally) = (Arc::clone(progress), Arc::clone(&tally));
            tasks.spawn(async move {
                let looped = turn(&plan, &*driver, client, opens, &progress, &tally);
                // What is in flight when the window closes is dropped uncounted.
                let _cut = tokio::time::timeout_at(closes.into(), looped).await;
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.map_err(io::Error::other)?;
        }
        let total = lock(&tally).clone();
        Ok(total)
    })
}

/// One client, for ever.
async fn turn<D: Driver>(
    plan: &Plan,
    driver: &D,
    client: usize,
    opens: Instant,
    progress: &AtomicU64,
    tally: &Mutex<Tally>,
) {
    let mut random = SmallRng::seed_from_u64(client as u64);
    let (mut session, mut attempt) = (None, 0);
    let mut started = Instant::now();
    loop {
        let draw = random.next_u64();
        let (kind, key) = (plan.mix.kind(draw >> 32), draw % plan.keys.count());
        // Making a connection is no part of an operation's latency; failing to make one is an error.
        let connected = session.is_none();
        let outcome = match connect(driver, &mut session, (client, attempt), plan.timeout).await {
            Ok(session) => {
                started = if connected { Instant::now() } else { started };
                within(plan.timeout, session.perform(kind, key)).await
            }
            Err(failure) => Err(failure),
        };
        let ended = Instant::now();
        let counts = ended >= opens;
        match outcome {
            Ok(()) if counts => {
                lock(tally).done(kind, ended - started);
                progress.fetch_add(1, Ordering::Relaxed);
            }
            Ok(()) => {}
            Err(failure) => {
                if counts {
                    lock(tally).failed(failure);
                }
                if failure.ends_session() {
                    session = None;
                    attempt += 1;
                }
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
        }
        started = if outcome.is_ok() { ended } else { Instant::now() };
    }
}

/// The client's connection, made if there is none.
async fn connect<'a, D: Driver>(
    driver: &D,
    session: &'a mut Option<D::Session>,
    (client, attempt): (usize, usize),
    timeout: Duration,
) -> Result<&'a mut D::Session, Failure> {
    match session {
        Some(session) => Ok(session),
        None => Ok(session.insert(within(timeout, driver.connect(client, attempt)).await?)),
    }
}

async fn within<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(timeout, work).await.unwrap_or(Err(Failure::Timeout))
}
