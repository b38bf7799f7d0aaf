//! The hot tier: records (and absences) that were written or read lately, held in memory.
//!
//! ```text
//!   apply of group N:  applying = N -> commit -> put(every touched key, N) -> publish View N
//!   read at View v:    entry, stamp <= v  -> use it
//!                      entry, stamp >  v  -> newer than this View: read the cold tier, fill nothing
//!                      nothing            -> take the key's guard, *then* look whether applying == v,
//!                                            read the cold tier, fill only if it was
//! ```
//!
//! Always true:
//! - an entry with stamp s says what the key is at every View from s up to the group that next
//!   touches the key, because that group puts its own entry before its View is published;
//! - a reader can never fill in something older than what a group put: the group's `put` takes the
//!   guard's place away, and a guard taken after the group began is refused by `applying`;
//! - it is never authoritative: dropping any entry at any time changes no answer.
//!
//! A value that is too large to hold is represented by a marker that sends readers to the cold tier;
//! merely leaving it out would let a reader that still holds the guard fill in the older record.
//! A clear and a change of generation begin a new instance: stamps of different instances are not
//! comparable, and each View carries the instance it belongs to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use quick_cache::sync::{Cache, GuardResult};
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

/// Rows longer than this are not held: one of them would push out hundreds of small records.
pub(crate) const HOT_ROW_BYTES_MAX: usize = 64 << 10;

/// What one entry costs besides the bytes of its key and row: the slot with its list links and the
/// slack of the slab, the hash index, the row's count of holders, and the allocator's rounding. From
/// the memory that a process holds with 200,000 entries (`benches/store.rs`, `gets`).
const ENTRY_OVERHEAD_BYTES: u64 = 224;

/// Below this no cache is made at all: it could not hold one row per shard.
const HOT_BYTES_MIN: u64 = 64 << 10;

/// Average weight assumed when the index is sized; a wrong guess costs memory or a rehash, not truth.
const ENTRY_BYTES_ESTIMATE: u64 = 512;

/// What the hot tier knows about a key at a View.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// The record row at this View.
    Row(Bytes),
    /// The key does not exist at this View.
    Absent,
}

#[derive(Clone)]
struct Entry {
    /// The apply group that wrote it, or the View it was read through.
    stamp: u64,
    held: Held,
}

#[derive(Clone)]
enum Held {
    Row(Bytes),
    Absent,
    /// There is a row, but it is not held here.
    TooLarge,
}

/// Counters of all instances of one store, since it was opened.
#[derive(Debug, Default)]
pub(crate) struct HotCounters {
    hits: AtomicU64,
    misses: AtomicU64,
    promotions: AtomicU64,
    evictions: AtomicU64,
    refused: AtomicU64,
    newer: AtomicU64,
}

/// What the hot tier did since the store was opened, and what it holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HotStats {
    /// Reads answered from memory.
    pub hits: u64,
    /// Reads that had to go to the cold tier because nothing was held.
    pub misses: u64,
    /// Rows (or absences) taken in by a read.
    pub promotions: u64,
    /// Entries pushed out to make room.
    pub evictions: u64,
    /// Rows not held because they are longer than 64 KiB.
    pub refused: u64,
    /// Reads whose View was older than the entry; they went to the cold tier.
    pub newer_than_view: u64,
    /// Entries held now.
    pub entries: u64,
    /// Bytes held now, overheads included.
    pub bytes: u64,
    /// The bound on `bytes`; 0 when the tier is off.
    pub bytes_max: u64,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Box<[u8]>, Entry> for ByBytes {
    fn weight(&self, key: &Box<[u8]>, entry: &Entry) -> u64 {
        // A marker weighs what an absence weighs: whenever a marker does not fit, nothing that a
        // reader could fill in for the same key fits either.
        let row = match &entry.held {
            Held::Row(row) => row.len(),
            Held::Absent | Held::TooLarge => 0,
        };
        (key.len() + row) as u64 + ENTRY_OVERHEAD_BYTES
    }
}

#[derive(Clone)]
struct CountEvictions(Arc<HotCounters>);

impl Lifecycle<Box<[u8]>, Entry> for CountEvictions {
    type RequestState = ();

    fn on_evict(&self, _: &mut (), _: Box<[u8]>, _: Entry) {
        self.0.evictions.fetch_add(1, Ordering::Relaxed);
    }
}

type RecordCache = Cache<Box<[u8]>, Entry, ByBytes, DefaultHashBuilder, CountEvictions>;

/// One instance of the hot tier; see the module's text for its protocol.
pub(crate) struct HotTier {
    cache: Option<RecordCache>,
    applying: AtomicU64,
    counters: Arc<HotCounters>,
    bytes_max: u64,
}

impl HotTier {
    /// An empty tier of at most `bytes_max` bytes whose first View has the stamp `stamp`.
    /// With fewer than 64 KiB it is off: every read is a miss.
    pub(crate) fn new(bytes_max: u64, stamp: u64, counters: Arc<HotCounters>) -> Self {
        let bytes_max = if bytes_max < HOT_BYTES_MIN { 0 } else { bytes_max };
        let cache = (bytes_max > 0).then(|| new_cache(bytes_max, &counters));
        Self { cache, applying: AtomicU64::new(stamp), counters, bytes_max }
    }

    /// An empty tier with the same bound and counters, for a cleared store or a new generation.
    pub(crate) fn successor(&self, stamp: u64) -> Self {
        Self::new(self.bytes_max, stamp, Arc::clone(&self.counters))
    }

    /// Said by the apply thread before it commits group `stamp`: from here on no reader of an older
    /// View fills anything in.
    pub(crate) fn begin(&self, stamp: u64) {
        self.applying.store(stamp, Ordering::SeqCst);
    }

    /// Said by the apply thread after the commit, for each key the group touched (`None`: it is gone).
    pub(crate) fn put(&self, key: &[u8], row: Option<Bytes>, stamp: u64) {
        let Some(cache) = &self.cache else { return };
        let held = match row {
            None => Held::Absent,
            Some(row) if self.is_too_large(row.len()) => self.too_large(),
            Some(row) => Held::Row(row),
        };
        cache.insert(key.into(), Entry { stamp, held });
    }

    /// What is held of `key` for the View `stamp`; never waits, never reads a disk.
    pub(crate) fn get(&self, key: &[u8], stamp: u64) -> Option<Found> {
        let entry = self.cache.as_ref()?.get(key)?;
        let found = entry.at(stamp)?;
        self.counters.hits.fetch_add(1, Ordering::Relaxed);
        Some(found)
    }

    /// As [`HotTier::get`], for the apply thread: not counted, because nobody asked for it.
    pub(crate) fn peek(&self, key: &[u8], stamp: u64) -> Option<Found> {
        self.cache.as_ref()?.get(key)?.at(stamp)
    }

    /// The key's row at the View `stamp`: held, or read by `cold` and then held. Waits while another
    /// reader loads the same key. The flag says whether it was held.
    pub(crate) fn get_or_load<E>(
        &self,
        key: &[u8],
        stamp: u64,
        cold: impl FnOnce() -> Result<Option<Bytes>, E>,
    ) -> Result<(Option<Bytes>, bool), E> {
        let Some(cache) = &self.cache else { return Ok((cold()?, false)) };
        let owned: Box<[u8]> = key.into();
        let guard = match cache.get_value_or_guard(&owned, None) {
            GuardResult::Value(entry) => return self.resolve(&entry, stamp, cold),
            GuardResult::Guard(guard) => guard,
            // No time-out was given, so there is none; reading the cold tier is always right.
            GuardResult::Timeout => return Ok((cold()?, false)),
        };
        self.counters.misses.fetch_add(1, Ordering::Relaxed);
        // Only now, with the guard in place: a group that begins after this load will find the guard
        // and take its place away; one that began before it is seen here.
        let fillable = self.applying.load(Ordering::SeqCst) == stamp;
        let row = cold()?;
        if fillable && !row.as_ref().is_some_and(|row| self.is_too_large(row.len())) {
            let held = row.clone().map_or(Held::Absent, Held::Row);
            if guard.insert(Entry { stamp, held }).is_ok() {
                self.counters.promotions.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok((row, false))
    }

    fn resolve<E>(
        &self,
        entry: &Entry,
        stamp: u64,
        cold: impl FnOnce() -> Result<Option<Bytes>, E>,
    ) -> Result<(Option<Bytes>, bool), E> {
        match entry.at(stamp) {
            Some(found) => {
                self.counters.hits.fetch_add(1, Ordering::Relaxed);
                Ok((found.into_row(), true))
            }
            None => {
                if entry.stamp > stamp {
                    self.counters.newer.fetch_add(1, Ordering::Relaxed);
                }
                Ok((cold()?, false))
            }
        }
    }

    fn is_too_large(&self, row_len: usize) -> bool {
        row_len > HOT_ROW_BYTES_MAX
            || self.cache.as_ref().is_some_and(|cache| row_len as u64 > cache.shard_capacity() / 4)
    }

    fn too_large(&self) -> Held {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        Held::TooLarge
    }

    /// Counters and contents of this moment.
    pub(crate) fn stats(&self) -> HotStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        HotStats {
            hits: read(&counters.hits),
            misses: read(&counters.misses),
            promotions: read(&counters.promotions),
            evictions: read(&counters.evictions),
            refused: read(&counters.refused),
            newer_than_view: read(&counters.newer),
            entries: self.cache.as_ref().map_or(0, |cache| cache.len() as u64),
            bytes: self.cache.as_ref().map_or(0, RecordCache::weight),
            bytes_max: self.bytes_max,
        }
    }
}

fn new_cache(bytes_max: u64, counters: &Arc<HotCounters>) -> RecordCache {
    let items = usize::try_from(bytes_max / ENTRY_BYTES_ESTIMATE).unwrap_or(usize::MAX);
    let options = OptionsBuilder::new()
        .estimated_items_capacity(items)
        .weight_capacity(bytes_max)
        .build()
        .expect("both capacities are given");
    let lifecycle = CountEvictions(Arc::clone(counters));
    Cache::with_options(options, ByBytes, DefaultHashBuilder::default(), lifecycle)
}

impl Entry {
    /// What this entry says about the View `stamp`; `None` when it says nothing.
    fn at(&self, stamp: u64) -> Option<Found> {
        if self.stamp > stamp {
            return None;
        }
        match &self.held {
            Held::Row(row) => Some(Found::Row(row.clone())),
            Held::Absent => Some(Found::Absent),
            Held::TooLarge => None,
        }
    }
}

impl Found {
    fn into_row(self) -> Option<Bytes> {
        match self {
            Self::Row(row) => Some(row),
            Self::Absent => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn tier() -> HotTier {
        HotTier::new(1 << 20, 0, Arc::default())
    }

    fn row(text: &str) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn load(tier: &HotTier, key: &[u8], stamp: u64, cold: Option<Bytes>) -> (Option<Bytes>, bool) {
        tier.get_or_load(key, stamp, || Ok::<_, Infallible>(cold)).unwrap()
    }

    #[test]
    fn an_entry_is_invisible_to_an_older_view() {
        let hot = tier();
        hot.begin(5);
        hot.put(b"k", row("new"), 5);

        assert_eq!(hot.get(b"k", 4), None);
        assert_eq!(load(&hot, b"k", 4, row("old")), (row("old"), false));
        assert_eq!(hot.get(b"k", 5), Some(Found::Row(row("new").unwrap())));
        assert_eq!(hot.stats().newer_than_view, 1);
    }

    #[test]
    fn a_read_promotes_rows_and_absences() {
        let hot = tier();

        assert_eq!(load(&hot, b"there", 0, row("v")), (row("v"), false));
        assert_eq!(load(&hot, b"gone", 0, None), (None, false));

        assert_eq!(load(&hot, b"there", 0, row("not asked")), (row("v"), true));
        assert_eq!(hot.get(b"gone", 0), Some(Found::Absent));
        assert_eq!(hot.stats().promotions, 2);
    }

    #[test]
    fn a_reader_of_an_old_view_fills_nothing() {
        let hot = tier();
        hot.begin(1);

        assert_eq!(load(&hot, b"k", 0, row("old")), (row("old"), false));

        assert_eq!(hot.get(b"k", 1), None);
    }

    #[test]
    fn a_group_that_commits_during_a_read_wins_over_its_fill() {
        let hot = tier();

        let read = hot.get_or_load(b"k", 0, || {
            hot.begin(1);
            hot.put(b"k", row("new"), 1);
            Ok::<_, Infallible>(row("old"))
        });

        assert_eq!(read.unwrap(), (row("old"), false));
        assert_eq!(hot.get(b"k", 1), Some(Found::Row(row("new").unwrap())));
    }

    #[test]
    fn a_large_row_written_during_a_read_is_not_hidden_by_its_fill() {
        let hot = tier();
        let large = Some(Bytes::from(vec![7; HOT_ROW_BYTES_MAX + 1]));

        let read = hot.get_or_load(b"k", 0, || {
            hot.begin(1);
            hot.put(b"k", large.clone(), 1);
            Ok::<_, Infallible>(row("old"))
        });

        assert_eq!(read.unwrap(), (row("old"), false));
        assert_eq!(hot.get(b"k", 1), None);
        assert_eq!(load(&hot, b"k", 1, large.clone()), (large, false));
        assert_eq!(hot.stats().refused, 1);
    }

    #[test]
    fn the_bound_holds_whatever_is_put() {
        let hot = tier();
        for n in 0..20_000_u32 {
            hot.put(&n.to_be_bytes(), Some(Bytes::from(vec![1; 200])), 0);
        }

        let stats = hot.stats();
        assert!(stats.bytes <= stats.bytes_max, "{stats:?}");
        assert!(stats.evictions > 10_000, "{stats:?}");
    }

    #[test]
    fn a_tier_without_room_is_off_and_still_right() {
        let hot = HotTier::new(100, 0, Arc::default());
        hot.put(b"k", row("v"), 0);

        assert_eq!(hot.get(b"k", 0), None);
        assert_eq!(load(&hot, b"k", 0, row("v")), (row("v"), false));
    }
}
