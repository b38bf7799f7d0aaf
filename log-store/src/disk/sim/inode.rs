//! One file of the simulated disk: what the process sees, what is durable, and the changes between.

use std::sync::Arc;

use super::SECTOR;
use super::survival::Unit;

#[derive(Debug, Default, Clone)]
pub(super) struct Inode {
    pub(super) live: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    /// In the order in which they were made.
    changes: Vec<Change>,
}

#[derive(Debug, Clone)]
struct Change {
    stamp: u64,
    what: What,
    /// Its sync failed: clean for the kernel, so no later sync writes it. It may have arrived, or not.
    is_lost: bool,
}

#[derive(Debug, Clone)]
enum What {
    Len(usize),
    /// The content of a sector, as far as the file went.
    Sector(usize, Arc<[u8]>),
}

impl Inode {
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        let live = Arc::new(bytes);
        Self { durable: Arc::clone(&live), live, changes: Vec::new() }
    }

    /// Sets the length; new bytes are zero.
    pub(super) fn set_len(&mut self, len: usize, stamps: &mut u64) {
        if len != self.live.len() {
            Arc::make_mut(&mut self.live).resize(len, 0);
            self.change(What::Len(len), stamps);
        }
    }

    pub(super) fn write(&mut self, from: usize, bytes: &[u8], stamps: &mut u64) {
        if bytes.is_empty() {
            return;
        }
        let to = from + bytes.len();
        self.set_len(to.max(self.live.len()), stamps);
        let sectors = from / SECTOR..to.div_ceil(SECTOR);
        let begin = sectors.start * SECTOR;
        let before = self.live[begin..self.live.len().min(sectors.end * SECTOR)].to_vec();
        Arc::make_mut(&mut self.live)[from..to].copy_from_slice(bytes);
        for (sector, before) in sectors.zip(before.chunks(SECTOR)) {
            let now = sector_of(&self.live, sector);
            if now != before {
                let now = Arc::from(now);
                self.change(What::Sector(sector, now), stamps);
            }
        }
    }

    fn change(&mut self, what: What, stamps: &mut u64) {
        *stamps += 1;
        self.changes.push(Change { stamp: *stamps, what, is_lost: false });
    }

    /// All becomes durable, but for what an earlier failed sync made the kernel forget.
    pub(super) fn sync(&mut self) {
        if !self.changes.iter().any(|change| change.is_lost) {
            self.durable = Arc::clone(&self.live);
            self.changes.clear();
            return;
        }
        let changes = std::mem::take(&mut self.changes);
        let durable = Arc::make_mut(&mut self.durable);
        let mut rewritten = Vec::new();
        for change in changes.iter().filter(|change| !change.is_lost) {
            change.what.apply(durable);
            rewritten.extend(change.what.sector().map(|sector| (sector, change.stamp)));
        }
        self.changes = changes;
        self.changes.retain(|change| {
            let is_newer = |&(sector, stamp): &(usize, u64)| {
                Some(sector) == change.what.sector() && stamp > change.stamp
            };
            change.is_lost && !rewritten.iter().any(is_newer)
        });
    }

    /// A failed sync: what it was to write is clean now. The length is not: it is in the journal.
    pub(super) fn fail_sync(&mut self) {
        for change in &mut self.changes {
            change.is_lost |= change.what.sector().is_some();
        }
    }

    /// Forgets what is cached and clean: reads see what is on the disk.
    pub(super) fn forget(&mut self) {
        let lost = self.changes.iter().filter(|change| change.is_lost);
        let lost: Vec<_> = lost.filter_map(|change| change.what.sector()).collect();
        if lost.is_empty() {
            return;
        }
        // A sector that was written again since is dirty, and is kept.
        self.changes.retain(|change| !change.is_lost);
        let is_dirty = |sector| self.changes.iter().any(|c| c.what.sector() == Some(sector));
        let live = Arc::make_mut(&mut self.live);
        for sector in lost.into_iter().filter(|&sector| !is_dirty(sector)) {
            overwrite(live, sector, sector_of(&self.durable, sector));
        }
    }

    pub(super) fn units(&self) -> impl Iterator<Item = Unit> {
        let unit = |c: &Change| Unit { stamp: c.stamp, is_content: c.what.sector().is_some() };
        self.changes.iter().map(unit)
    }

    /// What is left of the file when these changes survive.
    pub(super) fn surviving(&self, survivors: &[u64]) -> Self {
        let survives = |change: &&Change| survivors.binary_search(&change.stamp).is_ok();
        let mut left = Arc::clone(&self.durable);
        for change in self.changes.iter().filter(survives) {
            change.what.apply(Arc::make_mut(&mut left));
        }
        Self { durable: Arc::clone(&left), live: left, changes: Vec::new() }
    }
}

impl What {
    fn sector(&self) -> Option<usize> {
        match self {
            Self::Len(_) => None,
            Self::Sector(sector, _) => Some(*sector),
        }
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Len(len) => bytes.resize(*len, 0),
            Self::Sector(sector, new) => overwrite(bytes, *sector, new),
        }
    }
}

fn sector_of(bytes: &[u8], sector: usize) -> &[u8] {
    let from = (sector * SECTOR).min(bytes.len());
    &bytes[from..bytes.len().min(from + SECTOR)]
}

/// Sets a sector as far as the file goes; what `new` does not cover becomes zero.
fn overwrite(bytes: &mut [u8], sector: usize, new: &[u8]) {
    let from = (sector * SECTOR).min(bytes.len());
    let to = bytes.len().min(from + SECTOR);
    for (i, byte) in bytes[from..to].iter_mut().enumerate() {
        *byte = new.get(i).copied().unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survivors(inode: &Inode) -> Vec<u64> {
        inode.units().map(|unit| unit.stamp).collect()
    }

    #[test]
    fn a_sector_survives_as_it_was_after_any_of_its_writes() {
        let mut inode = Inode::durable(vec![b'.'; 1024]);
        let mut stamps = 0;
        inode.write(510, b"abcd", &mut stamps);
        inode.write(0, b"x", &mut stamps);
        let all = survivors(&inode);
        assert_eq!(all.len(), 3, "two sectors, then one again");
        let left = |kept: &[u64]| inode.surviving(kept).live;
        assert_eq!(&left(&all)[..2], b"x.");
        assert_eq!((&left(&all[..1])[510..513], left(&all[..1])[0]), (&b"ab."[..], b'.'));
        assert_eq!(&left(&all[1..2])[509..515], b"...cd.");
        assert_eq!(left(&[]), inode.durable);
    }

    #[test]
    fn what_a_failed_sync_lost_is_readable_until_forgotten_and_never_synced_again() {
        let mut inode = Inode::durable(vec![0; 1024]);
        let mut stamps = 0;
        inode.write(0, b"lost", &mut stamps);
        inode.fail_sync();
        inode.write(600, b"later", &mut stamps);
        inode.sync();
        assert_eq!((&inode.live[..4], &inode.durable[..4]), (&b"lost"[..], &[0; 4][..]));
        assert_eq!(&inode.durable[600..605], b"later");
        inode.forget();
        assert_eq!(&inode.live[..4], [0; 4]);
        inode.write(0, b"anew", &mut stamps);
        inode.sync();
        assert_eq!((&inode.durable[..4], inode.changes.len()), (&b"anew"[..], 0));
    }

    #[test]
    fn content_without_its_length_is_gone() {
        let mut inode = Inode::default();
        inode.write(0, &[7; 100], &mut 0);
        let units: Vec<_> = inode.units().collect();
        assert_eq!(inode.surviving(&[units[1].stamp]).live.len(), 0);
        assert_eq!(*inode.surviving(&[units[0].stamp]).live, [0; 100]);
    }
}
