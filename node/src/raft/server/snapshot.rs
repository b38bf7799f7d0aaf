//! Receiving a snapshot: one at a time, in a task of its own, written by a blocking thread.
//!
//! ```text
//!   request body ─► job (task) ─► bounded channel ─► intake (blocking thread) ─► prepared ─► installed
//!                      └── state ─► reports: response body
//! ```
//!
//! Always true:
//! - at most one job at a time, from the first byte until openraft has installed; a second sender hears "busy".
//!   openraft can panic when a second snapshot comes while it installs the first;
//! - once every byte is there the job goes on to the end, whether the sender still listens or not;
//! - a transfer that breaks off leaves what was verified.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{OwnedMutexGuard, mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use super::{Answer, Refusal, Shared};
use crate::raft::frame::{FrameError, Frames};
use crate::raft::metrics;
use crate::raft::port::{Prepared, RaftPort, SnapshotIntake};
use crate::raft::snapshot::{Begin, Progress, Report, decode_begin, encode_report, is_of_leader};
use crate::raft::types::Vote;
use crate::raft::wire::Malformed;

/// Pieces between the connection and the disk (a piece is one HTTP/2 data frame, at most 256 KiB).
/// When they are full the connection is not read, and the sender waits.
const PIECES_MAX: usize = 16;

/// A sender that sends nothing for this long while it is waited for has left: others may want to send.
const FEED_SILENCE_MAX: Duration = Duration::from_secs(60);

/// How often the sender hears how far it is.
const REPORT_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn receive(State(server): Shared, headers: HeaderMap, body: Body) -> Answer {
    let from = server.admit(&headers)?.node_id;
    let raft = server.raft()?;
    let mut frames = Frames::new(body);
    let begin = match frames.next().await {
        Some(Ok(frame)) => decode_begin(frame)?,
        Some(Err(FrameError::Malformed(malformed))) => return Err(malformed.into()),
        Some(Err(error)) => return Err(Refusal::Cut(error.to_string())),
        None => return Err(Malformed("a snapshot without a beginning").into()),
    };
    if !is_of_leader(&begin.vote, begin.last_log_id) {
        return Err(Malformed("a snapshot of a later leader than its sender").into());
    }
    let ours = raft.current_vote();
    if ours > begin.vote {
        return Ok(reports(None, Report::Installed(ours)));
    }
    let Ok(only) = server.receiving.clone().try_lock_owned() else {
        return Err(Refusal::Unavailable("another snapshot is being received or installed".into()));
    };
    let state = Arc::new(JobState { busy: AtomicBool::new(true), ..JobState::default() });
    let (reporting, reported) = mpsc::channel(2);
    let job = Job { from, begin, raft, frames, state: state.clone(), reporting, _only: only };
    tokio::spawn(job.run());
    Ok(follow(state, reported))
}

/// What the reports say of a job.
#[derive(Debug, Default)]
struct JobState {
    received: AtomicU64,
    busy: AtomicBool,
}

impl JobState {
    fn progress(&self) -> Progress {
        Progress {
            received: self.received.load(Ordering::Relaxed),
            busy: self.busy.load(Ordering::Relaxed),
        }
    }
}

struct Job {
    from: u64,
    begin: Begin,
    raft: Arc<dyn RaftPort>,
    frames: Frames<Body>,
    state: Arc<JobState>,
    /// Room for all that is ever sent: the offset and the end. Nobody may be listening.
    reporting: mpsc::Sender<Report>,
    _only: OwnedMutexGuard<()>,
}

/// Why a job ended without a result.
enum Stopped {
    /// The sender went away; it comes back.
    Cut(String),
    Failed(String),
}

impl Job {
    async fn run(mut self) {
        let (from, snapshot) = (self.from, self.begin.id.clone());
        let last = match self.work().await {
            Ok(vote) => {
                tracing::info!(from, snapshot, "a snapshot is installed");
                Report::Installed(vote)
            }
            Err(Stopped::Cut(why)) => {
                tracing::info!(from, snapshot, why, "a snapshot broke off");
                return;
            }
            Err(Stopped::Failed(why)) => {
                tracing::warn!(from, snapshot, why, "a snapshot was not installed");
                Report::Failed(why)
            }
        };
        let _ = self.reporting.try_send(last);
    }

    async fn work(&mut self) -> Result<Vote, Stopped> {
        let (pieces, intake) = self.start_intake().await?;
        self.state.busy.store(false, Ordering::Relaxed);
        let fed = self.feed(pieces).await;
        self.state.busy.store(true, Ordering::Relaxed);
        // First what the disk says: if it failed, that is why feeding stopped.
        let prepared = match intake.await {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(error)) => return Err(Stopped::Failed(error.to_string())),
            Err(panic) => return Err(Stopped::Failed(panic.to_string())),
        };
        let Some(prepared) = prepared else {
            return Err(Stopped::Cut(
                fed.err().unwrap_or_else(|| "fewer bytes than announced".into()),
            ));
        };
        if prepared.last_log_id != self.begin.last_log_id {
            let (found, said) = (prepared.last_log_id, self.begin.last_log_id);
            return Err(Stopped::Failed(format!(
                "the snapshot is of {found:?}, not of {said:?} as announced"
            )));
        }
        let installed = (prepared.install)(self.begin.vote).await;
        installed.map_err(|stopped| Stopped::Failed(stopped.to_string()))
    }

    /// Starts the blocking side, once it knows from where it goes on.
    async fn start_intake(&mut self) -> Result<(mpsc::Sender<Bytes>, IntakeTask), Stopped> {
        let (pieces, queue) = mpsc::channel(PIECES_MAX);
        let (found, offset) = oneshot::channel();
        let (raft, id, total) = (self.raft.clone(), self.begin.id.clone(), self.begin.total);
        let intake = tokio::task::spawn_blocking(move || take_in(&*raft, &id, total, found, queue));
        let Ok(offset) = offset.await else {
            return Err(Stopped::Failed(match intake.await {
                Ok(Err(error)) => error.to_string(),
                Ok(Ok(_)) => "the intake ended early".to_owned(),
                Err(panic) => panic.to_string(),
            }));
        };
        self.state.received.store(offset, Ordering::Relaxed);
        let _ = self.reporting.try_send(Report::GoOnAt(offset));
        Ok((pieces, intake))
    }

    /// Hands the body on until it ends; an error says why it ended early.
    async fn feed(&mut self, pieces: mpsc::Sender<Bytes>) -> Result<(), String> {
        let bytes_in = metrics::snapshot_bytes_in(self.from);
        let mut left = self.begin.total.saturating_sub(self.state.received.load(Ordering::Relaxed));
        while left > 0 {
            let piece = match timeout(FEED_SILENCE_MAX, self.frames.next_raw()).await {
                Err(_elapsed) => return Err(format!("nothing came for {FEED_SILENCE_MAX:?}")),
                Ok(None) => return Err("the sender ended early".into()),
                Ok(Some(Err(error))) => return Err(error.to_string()),
                Ok(Some(Ok(piece))) => piece,
            };
            let len = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            if len > left {
                return Err("more bytes than announced".into());
            }
            left -= len;
            pieces.send(piece).await.map_err(|_ended| "the intake ended".to_owned())?;
            self.state.received.fetch_add(len, Ordering::Relaxed);
            bytes_in.increment(len);
        }
        Ok(())
    }
}

type IntakeTask = tokio::task::JoinHandle<io::Result<Option<Prepared>>>;

/// The blocking side: writes what comes; prepares when everything came; `None` when it broke off.
fn take_in(
    raft: &dyn RaftPort,
    id: &str,
    total: u64,
    found: oneshot::Sender<u64>,
    mut queue: mpsc::Receiver<Bytes>,
) -> io::Result<Option<Prepared>> {
    let mut intake: Box<dyn SnapshotIntake> = raft.receive_snapshot(id)?;
    let mut have = intake.offset();
    if have > total {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "more of this snapshot is here than it is long",
        ));
    }
    if found.send(have).is_err() {
        return Ok(None);
    }
    while let Some(piece) = queue.blocking_recv() {
        intake.write(&piece)?;
        have += u64::try_from(piece.len()).unwrap_or(u64::MAX);
    }
    if have < total {
        return Ok(None);
    }
    intake.finish().map(Some)
}

/// The response: the job's own reports as they come, progress in between.
fn follow(state: Arc<JobState>, reported: mpsc::Receiver<Report>) -> Response {
    let mut ticks = interval(REPORT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let reports = stream::unfold(Some((state, reported, ticks)), |following| async move {
        let (state, mut reported, mut ticks): (_, _, Interval) = following?;
        let report = tokio::select! {
            biased;
            // A job that ends without a report: the body broke off, nobody reads this.
            report = reported.recv() => report?,
            _ = ticks.tick() => Report::Progress(JobState::progress(&state)),
        };
        let goes_on = matches!(report, Report::Progress(_) | Report::GoOnAt(_));
        Some((encode(&report), goes_on.then_some((state, reported, ticks))))
    });
    Body::from_stream(reports).into_response()
}

/// A response that is complete.
fn reports(first: Option<Report>, last: Report) -> Response {
    let all: Vec<_> = first.into_iter().chain([last]).map(|report| encode(&report)).collect();
    Body::from_stream(stream::iter(all)).into_response()
}

fn encode(report: &Report) -> Result<Bytes, Infallible> {
    Ok(encode_report(report).joined())
}
