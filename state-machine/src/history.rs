//! Keys in order as they were at a revision: the live rows and the history as one sequence.
//!
//! ```text
//!   records   a@7      c@2  d@9          live at revision 9
//!   history   a@3..7  b@4..8  d@5..9     versions and how long they were valid
//!   at 6      a@3      b@4  c@2  d@5     each key has one version that was valid then, or none
//! ```
//!
//! A key is never visible in both: a live record of `mod_revision <= N` ended every other version at or before N. So both
//! sides are cursors that yield visible versions alone, and the walk merges them by key.
//!
//! A key with many versions, or a group with many keys, is passed by a seek after a few steps: the cost follows what is
//! shown, not what lies between.

use std::cmp::Ordering;
use std::iter::Peekable;

use bytes::Bytes;

use crate::error::StoreError;
use crate::meta::Meta;
use crate::record::{self, Record};
use crate::rows::{Row, RowIter, Rows};
use crate::schema;
use crate::types::KeyRange;

/// Rows that are stepped over before a seek, which costs about as much as so many steps.
const STEPS_MAX: usize = 12;

/// The record row of `key` that was valid at `revision`.
pub(crate) fn version_at(
    rows: &impl Rows,
    meta: &Meta,
    key: &[u8],
    revision: u64,
) -> Result<Option<Bytes>, StoreError> {
    let live_key = schema::record_key(meta.epoch, key);
    if let Some(row) = rows.get(&live_key)?
        && Record::of_row(&live_key, &row)?.mod_revision <= revision
    {
        return Ok(Some(row));
    }
    let from = schema::history_start(meta.epoch, key);
    valid_before(rows, &from, revision)
}

/// The record row of the version that `key` got at exactly this stamp, if it is no longer the live one.
pub(crate) fn version_of(
    rows: &impl Rows,
    meta: &Meta,
    key: &[u8],
    stamp: crate::change::Stamp,
) -> Result<Option<Bytes>, StoreError> {
    let row_key = schema::history_key(meta.epoch, key, stamp.revision, stamp.sub);
    match rows.get(&row_key)? {
        Some(row) => Ok(Some(parse(&row_key, &row)?.1)),
        None => Ok(None),
    }
}

/// The version valid at `revision` among the history rows that begin with `start`: the last one made until then, unless
/// it had ended.
fn valid_before(
    rows: &impl Rows,
    start: &[u8],
    revision: u64,
) -> Result<Option<Bytes>, StoreError> {
    let behind = revision.saturating_add(1).to_be_bytes();
    let to = [start, &behind].concat();
    let Some((row_key, row)) = rows.scan(start, Some(&to), true).next().transpose()? else {
        return Ok(None);
    };
    let (until, record_row) = parse(&row_key, &row)?;
    Ok((until > revision).then_some(record_row))
}

/// When the version of a history row ended, and its record row.
fn parse(row_key: &[u8], row: &Bytes) -> Result<(u64, Bytes), StoreError> {
    let (until, _, record_row) = record::split_history_row(row)
        .map_err(|error| StoreError::corrupt("history", row_key, error))?;
    Ok((until, record_row))
}

/// The keys of a range and their record rows, in order, now or at a revision.
pub(crate) struct Walk<'a, R> {
    rows: &'a R,
    epoch: u32,
    range: KeyRange,
    reverse: bool,
    live: Peekable<RowIter<'a>>,
    /// The revision, and the versions that are not live any more.
    past: Option<(u64, Past<'a, R>)>,
    /// A key that was reached while passing others.
    reached: Option<Row>,
}

impl<'a, R: Rows> Walk<'a, R> {
    /// From the beginning of `range`, or from its end. `at` must be kept and reached; none is now.
    pub(crate) fn open(
        rows: &'a R,
        meta: &Meta,
        range: KeyRange,
        reverse: bool,
        at: Option<u64>,
    ) -> Self {
        let epoch = meta.epoch;
        // At the present revision the live rows are the answer.
        let at = at.filter(|revision| *revision < meta.revision);
        let past =
            at.map(|revision| (revision, Past::open(rows, epoch, &range, reverse, revision)));
        let live = live(rows, epoch, &range, reverse);
        Self { rows, epoch, range, reverse, live, past, reached: None }
    }

    /// The next key and its record row.
    pub(crate) fn next(&mut self) -> Result<Option<Row>, StoreError> {
        if let Some(reached) = self.reached.take() {
            return Ok(Some(reached));
        }
        let Some((revision, past)) = &mut self.past else {
            let Some((row_key, row)) = self.live.next().transpose()? else { return Ok(None) };
            return Ok(Some((schema::record_user_key(&row_key), row)));
        };
        drop_newer(&mut self.live, *revision)?;
        let order = match (self.live.peek(), past.peek()?) {
            (None, None) => return Ok(None),
            (Some(Ok((row_key, _))), Some((key, _))) => {
                let order = schema::record_user_key(row_key).cmp(key);
                if self.reverse { order.reverse() } else { order }
            }
            (Some(_), _) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
        };
        if order == Ordering::Greater {
            return past.next();
        }
        let Some((row_key, row)) = self.live.next().transpose()? else { return Ok(None) };
        Ok(Some((schema::record_user_key(&row_key), row)))
    }

    /// Passes the keys that begin with `prefix`; the walk stands at one of them.
    pub(crate) fn pass(&mut self, prefix: &[u8]) -> Result<(), StoreError> {
        for _ in 0..STEPS_MAX {
            match self.next()? {
                Some(row) if row.0.starts_with(prefix) => {}
                reached => {
                    self.reached = reached;
                    return Ok(());
                }
            }
        }
        if self.reverse {
            self.range.end = Some(Bytes::copy_from_slice(prefix));
        } else {
            match schema::prefix_end(prefix) {
                Some(end) => self.range.start = end.into(),
                None => self.range.end = Some(self.range.start.clone()),
            }
        }
        self.live = live(self.rows, self.epoch, &self.range, self.reverse);
        if let Some((revision, past)) = &mut self.past {
            *past = Past::open(self.rows, self.epoch, &self.range, self.reverse, *revision);
        }
        Ok(())
    }
}

fn live<'a>(
    rows: &'a impl Rows,
    epoch: u32,
    range: &KeyRange,
    reverse: bool,
) -> Peekable<RowIter<'a>> {
    let (from, to) = schema::record_bounds(epoch, range);
    rows.scan(&from, Some(&to), reverse).peekable()
}

/// Drops live records that were made after `revision`.
fn drop_newer(live: &mut Peekable<RowIter<'_>>, revision: u64) -> Result<(), StoreError> {
    while let Some(Ok((row_key, row))) = live.peek() {
        if Record::of_row(row_key, row)?.mod_revision <= revision {
            break;
        }
        live.next();
    }
    Ok(())
}

/// The versions of a range that were valid at a revision and ended since, one per key at most.
struct Past<'a, R> {
    rows: &'a R,
    reverse: bool,
    revision: u64,
    to: Vec<u8>,
    from: Vec<u8>,
    versions: Peekable<RowIter<'a>>,
    peeked: Option<Row>,
}

impl<'a, R: Rows> Past<'a, R> {
    fn open(rows: &'a R, epoch: u32, range: &KeyRange, reverse: bool, revision: u64) -> Self {
        let (from, to) = schema::history_bounds(epoch, range);
        let versions = rows.scan(&from, Some(&to), reverse).peekable();
        Self { rows, reverse, revision, to, from, versions, peeked: None }
    }

    fn peek(&mut self) -> Result<Option<&Row>, StoreError> {
        if self.peeked.is_none() {
            self.peeked = self.advance()?;
        }
        Ok(self.peeked.as_ref())
    }

    fn next(&mut self) -> Result<Option<Row>, StoreError> {
        match self.peeked.take() {
            Some(row) => Ok(Some(row)),
            None => self.advance(),
        }
    }

    fn advance(&mut self) -> Result<Option<Row>, StoreError> {
        while let Some((row_key, row)) = self.versions.next().transpose()? {
            let start = key_part(&row_key)?;
            if let Some(record_row) = self.valid(&start, row_key, row)? {
                return Ok(Some((user_key(&start)?, record_row)));
            }
        }
        Ok(None)
    }

    /// Passes all versions of one key, the first of which was just taken, and gives the valid one.
    fn valid(
        &mut self,
        start: &Bytes,
        first_key: Bytes,
        first_row: Bytes,
    ) -> Result<Option<Bytes>, StoreError> {
        let mut valid = self.check(&first_key, &first_row)?;
        for _ in 0..STEPS_MAX {
            match self.versions.peek() {
                Some(Ok((row_key, _))) if row_key.starts_with(start) => {}
                _ => return Ok(valid),
            }
            if let Some((row_key, row)) = self.versions.next().transpose()?
                && valid.is_none()
            {
                valid = self.check(&row_key, &row)?;
            }
        }
        self.seek_past(start);
        match valid {
            Some(valid) => Ok(Some(valid)),
            None => valid_before(self.rows, start, self.revision),
        }
    }

    /// The record row if the version was valid.
    fn check(&self, row_key: &[u8], row: &Bytes) -> Result<Option<Bytes>, StoreError> {
        let (_, made, _) = schema::split_history_key(row_key)
            .ok_or_else(|| StoreError::corrupt("history", row_key, "short key"))?;
        let (until, record_row) = parse(row_key, row)?;
        Ok((made <= self.revision && self.revision < until).then_some(record_row))
    }

    fn seek_past(&mut self, start: &Bytes) {
        if self.reverse {
            self.to = start.to_vec();
        } else {
            self.from = schema::prefix_end(start).unwrap_or_else(|| self.to.clone());
        }
        self.versions = self.rows.scan(&self.from, Some(&self.to), self.reverse).peekable();
    }
}

/// What all history row keys of a key begin with.
fn key_part(row_key: &Bytes) -> Result<Bytes, StoreError> {
    schema::history_start_of(row_key)
        .ok_or_else(|| StoreError::corrupt("history", row_key, "short key"))
}

fn user_key(start: &Bytes) -> Result<Bytes, StoreError> {
    schema::history_user_key(start)
        .map(Bytes::from)
        .ok_or_else(|| StoreError::corrupt("history", start, "key is not escaped"))
}
