//! The rows that a group wrote, over the ones it found.
//!
//! ```text
//!   reads ──► slots ──► base        a slot hides the base's row; one with nothing in it hides it as removed
//! ```
//!
//! Each slot remembers the base's row, so that the group's digest needs one look at the first and the last version of a
//! row, however often it changed in between. A transaction can be taken back: while it runs, every first change of a
//! slot is noted.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::iter::Peekable;
use std::ops::Bound;

use bytes::Bytes;

use crate::error::StoreError;
use crate::rows::{Row, RowIter, Rows};

pub(crate) struct Overlay<'a, R> {
    base: &'a R,
    slots: BTreeMap<Bytes, Slot>,
    undo: Option<Vec<Undo>>,
}

/// One changed row.
pub(crate) struct Slot {
    /// The base's row.
    pub(crate) before: Option<Bytes>,
    /// The row as it is now; none where it was removed.
    pub(crate) now: Option<Bytes>,
}

/// How a slot was before a change.
enum Undo {
    Vacant(Bytes),
    Was(Bytes, Option<Bytes>),
}

impl<'a, R: Rows> Overlay<'a, R> {
    pub(crate) fn new(base: &'a R) -> Self {
        Self { base, slots: BTreeMap::new(), undo: None }
    }

    /// Writes the row `now`, or removes it. `found` is what [`Rows::get`] gave for `key`.
    pub(crate) fn set(&mut self, key: Bytes, found: Option<Bytes>, now: Option<Bytes>) {
        match self.slots.entry(key) {
            Entry::Vacant(entry) => {
                if let Some(undo) = &mut self.undo {
                    undo.push(Undo::Vacant(entry.key().clone()));
                }
                entry.insert(Slot { before: found, now });
            }
            Entry::Occupied(mut entry) => {
                let was = std::mem::replace(&mut entry.get_mut().now, now);
                if let Some(undo) = &mut self.undo {
                    undo.push(Undo::Was(entry.key().clone(), was));
                }
            }
        }
    }

    /// Begins to note what changes.
    pub(crate) fn begin(&mut self) {
        assert!(self.undo.is_none(), "transactions do not nest");
        self.undo = Some(Vec::new());
    }

    /// Keeps what changed since [`Overlay::begin`].
    pub(crate) fn keep(&mut self) {
        self.undo = None;
    }

    /// Takes back what changed since [`Overlay::begin`].
    pub(crate) fn take_back(&mut self) {
        for undo in self.undo.take().into_iter().flatten().rev() {
            match undo {
                Undo::Vacant(key) => {
                    self.slots.remove(&key);
                }
                Undo::Was(key, was) => {
                    if let Some(slot) = self.slots.get_mut(&key) {
                        slot.now = was;
                    }
                }
            }
        }
    }

    /// The changed rows in key order.
    pub(crate) fn into_slots(self) -> BTreeMap<Bytes, Slot> {
        self.slots
    }
}

impl<R: Rows> Rows for Overlay<'_, R> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.slots.get(key) {
            Some(slot) => Ok(slot.now.clone()),
            None => self.base.get(key),
        }
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, reverse: bool) -> RowIter<'_> {
        if to.is_some_and(|to| to <= from) {
            return Box::new(std::iter::empty());
        }
        let base = self.base.scan(from, to, reverse);
        if self.slots.is_empty() {
            return base;
        }
        let upper = to.map_or(Bound::Unbounded, Bound::Excluded);
        let slots = self.slots.range::<[u8], _>((Bound::Included(from), upper));
        if reverse {
            Box::new(Merged { base: base.peekable(), slots: slots.rev().peekable(), reverse })
        } else {
            Box::new(Merged { base: base.peekable(), slots: slots.peekable(), reverse })
        }
    }
}

/// Base and slots as one ordered sequence; where both have a key, the slot counts.
struct Merged<'a, S: Iterator<Item = (&'a Bytes, &'a Slot)>> {
    base: Peekable<RowIter<'a>>,
    slots: Peekable<S>,
    reverse: bool,
}

impl<'a, S: Iterator<Item = (&'a Bytes, &'a Slot)>> Iterator for Merged<'a, S> {
    type Item = Result<Row, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let order = match (self.base.peek(), self.slots.peek()) {
                (None, None) => return None,
                (Some(Ok((base, _))), Some((slot, _))) => {
                    let order = base.cmp(slot);
                    if self.reverse { order.reverse() } else { order }
                }
                (Some(_), _) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
            };
            if order == Ordering::Less {
                return self.base.next();
            }
            if order == Ordering::Equal {
                self.base.next();
            }
            let (key, slot) = self.slots.next()?;
            if let Some(row) = &slot.now {
                return Some(Ok((key.clone(), row.clone())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn base(keys: &[&'static str]) -> BTreeMap<Bytes, Bytes> {
        keys.iter().map(|key| (bytes(key), bytes("base"))).collect()
    }

    fn write(
        overlay: &mut Overlay<'_, BTreeMap<Bytes, Bytes>>,
        key: &'static str,
        now: Option<&'static str>,
    ) {
        let found = overlay.get(key.as_bytes()).unwrap();
        overlay.set(bytes(key), found, now.map(bytes));
    }

    fn read(
        overlay: &impl Rows,
        from: &str,
        to: Option<&str>,
        reverse: bool,
    ) -> Vec<(Bytes, Bytes)> {
        overlay
            .scan(from.as_bytes(), to.map(str::as_bytes), reverse)
            .collect::<Result<_, _>>()
            .unwrap()
    }

    #[test]
    fn a_scan_shows_slots_over_the_base() {
        let base = base(&["a", "c", "e", "g"]);
        let mut overlay = Overlay::new(&base);
        write(&mut overlay, "c", None);
        write(&mut overlay, "d", Some("new"));
        write(&mut overlay, "e", Some("new"));
        write(&mut overlay, "h", Some("new"));
        let all = read(&overlay, "", None, false);
        let keys: Vec<_> = all.iter().map(|(key, row)| (&key[..], &row[..])).collect();
        let expected: [(&[u8], &[u8]); 5] =
            [(b"a", b"base"), (b"d", b"new"), (b"e", b"new"), (b"g", b"base"), (b"h", b"new")];
        assert_eq!(keys, expected);
        let mut reversed = read(&overlay, "", None, true);
        reversed.reverse();
        assert_eq!(reversed, all);
        assert_eq!(read(&overlay, "d", Some("g"), false), all[1..3]);
        assert!(read(&overlay, "g", Some("d"), false).is_empty(), "inverted");
    }

    #[test]
    fn what_is_taken_back_leaves_no_trace() {
        let base = base(&["a", "b"]);
        let mut overlay = Overlay::new(&base);
        write(&mut overlay, "a", Some("kept"));
        let before = read(&overlay, "", None, false);
        overlay.begin();
        write(&mut overlay, "a", None);
        write(&mut overlay, "a", Some("lost"));
        write(&mut overlay, "b", None);
        write(&mut overlay, "c", Some("lost"));
        overlay.take_back();
        assert_eq!(read(&overlay, "", None, false), before);
        assert_eq!(overlay.into_slots().len(), 1, "the row before the transaction alone");
    }

    #[test]
    fn a_slot_remembers_the_row_of_the_base() {
        let base = base(&["a"]);
        let mut overlay = Overlay::new(&base);
        write(&mut overlay, "a", Some("one"));
        write(&mut overlay, "a", Some("two"));
        let slots = overlay.into_slots();
        assert_eq!(slots[&bytes("a")].before, Some(bytes("base")));
        assert_eq!(slots[&bytes("a")].now, Some(bytes("two")));
    }
}
