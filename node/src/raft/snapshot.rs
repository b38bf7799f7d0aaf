//! Sending a snapshot: the frozen view becomes a file, the file goes over as it is, from where the peer left off.
//!
//! ```text
//!   here                                        peer
//!   SnapshotBegin (which one) ────────────────► verifies what of it is there already
//!                             ◄──────────────── SnapshotOffset
//!   the file from there on    ══════════════►   writes, verifies, prepares, installs
//!                             ◄═ SnapshotProgress, once a second
//!                             ◄──────────────── SnapshotDone: installed, with the peer's vote
//! ```
//!
//! Always true:
//! - what openraft is told was installed is exactly the meta of the file that was sent;
//! - there is no bound on the whole, but on the time without a report ([`SILENCE_MAX`]) and without progress
//!   while the peer waits for bytes ([`STALL_MAX`]);
//! - a broken transfer leaves what arrived at the peer; the next attempt with the same file goes on there.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use raftmap_state_machine::SnapshotData;
use raftmap_state_machine::raft::log_id_to_raft;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::body::PeerBody;
use super::error::PeerError;
use super::frame::{Frame, Kind};
use super::lock::Mutex;
use super::message::{optional_log_id, put_optional_log_id, put_vote, vote};
use super::peers::Peer;
use super::types::{LogId, Snapshot, Vote};
use super::wire::{FrameWriter, Malformed, Pieces, Reader};

pub(crate) const SNAPSHOT_PATH: &str = "/raft/v1/snapshot";

/// The peer reports once a second; without a report for this long it is given up.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// While the peer waits for bytes and none arrives, it is given up after this long.
const STALL_MAX: Duration = Duration::from_secs(30);

/// The file is read in pieces of this size.
const READ_BYTES: usize = 256 * 1024;

/// Why a snapshot was not sent.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The snapshot is of a newer leader than the vote it would be sent with: this node leads no more.
    Deposed,
    /// The file could not be made or read here.
    Local(String),
    /// The peer's side, or the way there.
    Peer(PeerError),
}

/// Makes the file and sends it. The answer is the peer's vote; the snapshot is installed if it is not higher.
pub(crate) async fn send(peer: &Peer, vote: Vote, snapshot: Snapshot) -> Result<Vote, SendError> {
    let last_log_id = snapshot.meta.last_log_id;
    if !is_of_leader(&vote, last_log_id) {
        return Err(SendError::Deposed);
    }
    let SnapshotData::Frozen(view) = snapshot.snapshot else {
        return Err(SendError::Local(
            "a prepared generation is for installing, not for sending".into(),
        ));
    };
    let _sending = peer.sending.begin();
    // The file is kept as long as this handle.
    let file = tokio::task::spawn_blocking(move || view.write_file())
        .await
        .map_err(|panic| SendError::Local(panic.to_string()))?
        .map_err(|error| SendError::Local(format!("write the snapshot: {error}")))?;
    let applied = file.meta().applied.map(log_id_to_raft);
    // openraft takes the label for what the peer has. A file of another moment would be a false ack.
    assert!(
        applied == last_log_id,
        "the snapshot labelled {last_log_id:?} became a file of {applied:?}"
    );
    let begin = Begin { vote, last_log_id, id: file.id().to_owned(), total: file.bytes() };
    send_file(peer, file.path().to_owned(), begin).await
}

/// Whether a snapshot up to `last` can be of the leader with this vote, or of one before it.
pub(crate) fn is_of_leader(vote: &Vote, last: Option<LogId>) -> bool {
    last.is_none_or(|last| *last.committed_leader_id() <= vote.leader_id)
}

/// Sends the file that `begin` describes.
pub(crate) async fn send_file(peer: &Peer, path: PathBuf, begin: Begin) -> Result<Vote, SendError> {
    let begun = Instant::now();
    let (start, started) = oneshot::channel();
    let sent = peer.metrics.snapshot_bytes.clone();
    let content = content(started).inspect(move |read| {
        let bytes = read.as_ref().map_or(0, Bytes::len);
        sent.increment(u64::try_from(bytes).unwrap_or(u64::MAX));
    });
    let first = encode_begin(&begin).joined();
    let body = PeerBody::stream(stream::iter([Ok(first)]).chain(content));
    let outcome = follow(peer, body, Transfer { path, begin: &begin, start: Some(start) }).await;
    let seconds = begun.elapsed().as_secs_f64();
    let (snapshot, bytes) = (&begin.id, begin.total);
    match &outcome {
        Ok(_) => {
            tracing::info!(peer = peer.id, snapshot, bytes, seconds, "the peer has the snapshot");
        }
        Err(error) => tracing::warn!(
            peer = peer.id,
            snapshot,
            bytes,
            seconds,
            ?error,
            "the snapshot did not get through"
        ),
    }
    outcome
}

/// How long after a transfer its peer may take to catch up from the log.
const CATCH_UP: Duration = Duration::from_secs(10);

/// Whether a snapshot is on its way to one peer.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    state: Mutex<SendingState>,
}

#[derive(Debug, Default)]
struct SendingState {
    under_way: u32,
    ended: Option<Instant>,
}

impl Sending {
    fn begin(&self) -> SendingGuard<'_> {
        self.state.lock().under_way += 1;
        SendingGuard { sending: self }
    }

    /// Under way, or ended so lately that the peer may still be catching up.
    pub(crate) fn is_recent(&self) -> bool {
        let state = self.state.lock();
        state.under_way > 0 || state.ended.is_some_and(|ended| ended.elapsed() < CATCH_UP)
    }
}

struct SendingGuard<'a> {
    sending: &'a Sending,
}

impl Drop for SendingGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.sending.state.lock();
        state.under_way -= 1;
        state.ended = Some(Instant::now());
    }
}

/// The file, opened where the peer wants to go on, and how much is to be read of it.
struct Opened {
    file: File,
    left: u64,
}

/// What is left of the file, in pieces, once it is known where to start.
fn content(
    started: oneshot::Receiver<Opened>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let opened = stream::once(async {
        started.await.map_err(|_gone| io::Error::other("the transfer was given up"))
    });
    opened.flat_map(|opened| match opened {
        Ok(opened) => stream::try_unfold(opened, next_piece).left_stream(),
        Err(error) => stream::iter([Err(error)]).right_stream(),
    })
}

async fn next_piece(mut opened: Opened) -> io::Result<Option<(Bytes, Opened)>> {
    if opened.left == 0 {
        return Ok(None);
    }
    let mut piece = BytesMut::with_capacity(READ_BYTES);
    let read = (&mut opened.file).take(opened.left).read_buf(&mut piece).await?;
    if read == 0 {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the snapshot file is shorter than it was",
        ));
    }
    opened.left = opened.left.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
    Ok(Some((piece.freeze(), opened)))
}

async fn open_at(path: &Path, offset: u64, total: u64) -> io::Result<Opened> {
    let mut file = File::open(path).await?;
    file.seek(io::SeekFrom::Start(offset)).await?;
    Ok(Opened { file, left: total - offset })
}

struct Transfer<'a> {
    path: PathBuf,
    begin: &'a Begin,
    start: Option<oneshot::Sender<Opened>>,
}

/// Waits for the end, as long as the peer reports and moves.
async fn follow(
    peer: &Peer,
    body: PeerBody,
    mut transfer: Transfer<'_>,
) -> Result<Vote, SendError> {
    let addr = peer.addr();
    let failed = |error| Err(SendError::Peer(error));
    let silent = |_elapsed| {
        peer.snapshot.sever();
        SendError::Peer(PeerError::timeout(addr, SILENCE_MAX))
    };
    let opening = peer.snapshot.open(SNAPSHOT_PATH, Some(peer.identity()), body);
    let mut reports =
        timeout(SILENCE_MAX, opening).await.map_err(silent)?.map_err(SendError::Peer)?;
    let mut moved = (Instant::now(), Progress::default());
    loop {
        let report = match timeout(SILENCE_MAX, reports.next()).await.map_err(silent)? {
            None => return failed(PeerError::broken(addr, "the peer ended the transfer")),
            Some(Err(error)) => return failed(PeerError::frame(addr, error)),
            Some(Ok(frame)) => decode_report(frame),
        };
        match report.map_err(|source| SendError::Peer(PeerError::malformed(addr, source)))? {
            Report::Installed(vote) => return Ok(vote),
            Report::Failed(reason) => {
                return failed(PeerError::Unavailable { addr: addr.to_owned(), reason });
            }
            Report::GoOnAt(offset) => transfer.start_at(peer, offset).await?,
            Report::Progress(progress) if progress != moved.1 => moved = (Instant::now(), progress),
            Report::Progress(progress) if !progress.busy && moved.0.elapsed() > STALL_MAX => {
                peer.snapshot.sever();
                return failed(PeerError::timeout(addr, STALL_MAX));
            }
            Report::Progress(_) => {}
        }
    }
}

impl Transfer<'_> {
    async fn start_at(&mut self, peer: &Peer, offset: u64) -> Result<(), SendError> {
        let nonsense = |what| SendError::Peer(PeerError::malformed(peer.addr(), Malformed(what)));
        let total = self.begin.total;
        if offset > total {
            return Err(nonsense("an offset behind the end of the snapshot"));
        }
        let start = self.start.take().ok_or_else(|| nonsense("a second offset"))?;
        let opened = open_at(&self.path, offset, total).await;
        let opened = opened
            .map_err(|error| SendError::Local(format!("read {}: {error}", self.path.display())))?;
        tracing::info!(
            peer = peer.id,
            snapshot = self.begin.id,
            bytes = total,
            offset,
            "sending a snapshot"
        );
        // If the body is gone by now, the reports end as well.
        let _ = start.send(opened);
        Ok(())
    }
}

/// Which snapshot, for which leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Begin {
    pub(crate) vote: Vote,
    pub(crate) last_log_id: Option<LogId>,
    pub(crate) id: String,
    pub(crate) total: u64,
}

/// How far the peer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes that arrived, those of earlier attempts included.
    pub(crate) received: u64,
    /// It does not wait for bytes: it verifies, prepares or installs.
    pub(crate) busy: bool,
}

/// What the peer says during a transfer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// Send from here on; once.
    GoOnAt(u64),
    /// Still there.
    Progress(Progress),
    /// Installed, or ignored because this vote is higher.
    Installed(Vote),
    Failed(String),
}

pub(crate) fn encode_begin(begin: &Begin) -> Pieces {
    let mut frame = FrameWriter::new(Kind::SnapshotBegin, 128);
    put_vote(&mut frame, &begin.vote);
    put_optional_log_id(&mut frame, begin.last_log_id.as_ref());
    frame.text(&begin.id);
    frame.u64(begin.total);
    frame.finish()
}

pub(crate) fn decode_begin(frame: Frame) -> Result<Begin, Malformed> {
    let mut reader = frame.expect(Kind::SnapshotBegin)?;
    let begin = Begin {
        vote: vote(&mut reader)?,
        last_log_id: optional_log_id(&mut reader)?,
        id: reader.text()?,
        total: reader.u64()?,
    };
    reader.end()?;
    Ok(begin)
}

pub(crate) fn encode_report(report: &Report) -> Pieces {
    let kind = match report {
        Report::GoOnAt(_) => Kind::SnapshotOffset,
        Report::Progress(_) => Kind::SnapshotProgress,
        Report::Installed(_) | Report::Failed(_) => Kind::SnapshotDone,
    };
    let mut frame = FrameWriter::new(kind, 32);
    match report {
        Report::GoOnAt(offset) => frame.u64(*offset),
        Report::Progress(progress) => {
            frame.u64(progress.received);
            frame.bool(progress.busy);
        }
        Report::Installed(vote) => {
            frame.u8(0);
            put_vote(&mut frame, vote);
        }
        Report::Failed(reason) => {
            frame.u8(1);
            frame.text(reason);
        }
    }
    frame.finish()
}

pub(crate) fn decode_report(frame: Frame) -> Result<Report, Malformed> {
    let kind = frame.kind;
    let mut reader = Reader::new(frame.body);
    let report = match kind {
        Kind::SnapshotOffset => Report::GoOnAt(reader.u64()?),
        Kind::SnapshotProgress => {
            Report::Progress(Progress { received: reader.u64()?, busy: reader.bool()? })
        }
        Kind::SnapshotDone => match reader.u8()? {
            0 => Report::Installed(vote(&mut reader)?),
            1 => Report::Failed(reader.text()?),
            _ => return Err(Malformed("an unknown end of a snapshot")),
        },
        _ => return Err(Malformed("an unexpected kind of frame")),
    };
    reader.end()?;
    Ok(report)
}
