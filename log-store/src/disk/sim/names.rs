//! The names of the simulated disk: those that the process sees, the durable ones, the changes between.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::survival::Unit;

/// Names of files with their inodes, and the directories.
#[derive(Debug, Default, Clone)]
pub(super) struct Names {
    pub(super) live: BTreeMap<PathBuf, usize>,
    pub(super) dirs: BTreeSet<PathBuf>,
    durable: BTreeMap<PathBuf, usize>,
    durable_dirs: BTreeSet<PathBuf>,
    /// In the order in which they were made.
    changes: Vec<Change>,
}

#[derive(Debug, Clone)]
struct Change {
    stamp: u64,
    inode: usize,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Dir(PathBuf),
    Link(PathBuf),
    Move { from: PathBuf, to: PathBuf },
    Unlink(PathBuf),
    MoveDir { from: PathBuf, to: PathBuf },
    ExchangeDirs { a: PathBuf, b: PathBuf },
}

impl Names {
    pub(super) fn create_dir(&mut self, dir: &Path, stamps: &mut u64) {
        if self.dirs.insert(dir.to_owned()) {
            self.change(0, What::Dir(dir.to_owned()), stamps);
        }
    }

    pub(super) fn link(&mut self, path: &Path, inode: usize, stamps: &mut u64) {
        self.live.insert(path.to_owned(), inode);
        self.change(inode, What::Link(path.to_owned()), stamps);
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, stamps: &mut u64) -> bool {
        let Some(inode) = self.live.remove(from) else { return false };
        self.live.insert(to.to_owned(), inode);
        self.change(inode, What::Move { from: from.to_owned(), to: to.to_owned() }, stamps);
        true
    }

    pub(super) fn unlink(&mut self, path: &Path, stamps: &mut u64) -> bool {
        let Some(inode) = self.live.remove(path) else { return false };
        self.change(inode, What::Unlink(path.to_owned()), stamps);
        true
    }

    /// Renames a directory. What is in it must be durable: a change under its former name would be lost.
    pub(super) fn move_dir(&mut self, from: &Path, to: &Path, stamps: &mut u64) -> bool {
        if !self.dirs.contains(from) || self.dirs.contains(to) {
            return false;
        }
        let what = What::MoveDir { from: from.to_owned(), to: to.to_owned() };
        self.apply_live(0, what, stamps);
        true
    }

    /// The same for two directories at once.
    pub(super) fn exchange_dirs(&mut self, a: &Path, b: &Path, stamps: &mut u64) -> bool {
        if !self.dirs.contains(a) || !self.dirs.contains(b) {
            return false;
        }
        self.apply_live(0, What::ExchangeDirs { a: a.to_owned(), b: b.to_owned() }, stamps);
        true
    }

    fn apply_live(&mut self, inode: usize, what: What, stamps: &mut u64) {
        self.change(inode, what, stamps);
        let Some(change) = self.changes.last() else { return };
        apply(change, &self.changes, &mut self.live, &mut self.dirs);
    }

    fn change(&mut self, inode: usize, what: What, stamps: &mut u64) {
        *stamps += 1;
        self.changes.push(Change { stamp: *stamps, inode, what });
    }

    /// The changes of the directory are durable.
    pub(super) fn sync(&mut self, dir: &Path) {
        let is_here = |change: &Change| change.what.dir() == Some(dir);
        let changes = std::mem::take(&mut self.changes);
        for change in changes.iter().filter(|change| is_here(change)) {
            apply(change, &changes, &mut self.durable, &mut self.durable_dirs);
        }
        self.changes = changes.into_iter().filter(|change| !is_here(change)).collect();
    }

    pub(super) fn put(&mut self, path: &Path, inode: usize) {
        self.take(path);
        self.live.insert(path.to_owned(), inode);
        self.durable.insert(path.to_owned(), inode);
    }

    pub(super) fn put_dir(&mut self, dir: &Path) {
        self.dirs.insert(dir.to_owned());
        self.durable_dirs.insert(dir.to_owned());
    }

    pub(super) fn take(&mut self, path: &Path) -> Option<usize> {
        let inode = self.live.remove(path);
        self.durable.remove(path);
        self.changes.retain(|change| !change.what.names(path));
        inode
    }

    /// The name of an open file, as long as it has one.
    pub(super) fn of(&self, inode: usize) -> PathBuf {
        let named = self.live.iter().find(|(_, i)| **i == inode);
        named.map_or_else(PathBuf::new, |(path, _)| path.clone())
    }

    pub(super) fn units(&self) -> impl Iterator<Item = Unit> {
        self.changes.iter().map(|change| Unit { stamp: change.stamp, is_content: false })
    }

    /// What is left of the names when these changes survive.
    pub(super) fn surviving(&self, survivors: &[u64]) -> Self {
        let (mut names, mut dirs) = (self.durable.clone(), self.durable_dirs.clone());
        let survives = |change: &&Change| survivors.binary_search(&change.stamp).is_ok();
        for change in self.changes.iter().filter(survives) {
            apply(change, &self.changes, &mut names, &mut dirs);
        }
        // What is in a directory that is lost is lost with it.
        let made = self
            .changes
            .iter()
            .filter_map(|change| if let What::Dir(dir) = &change.what { Some(dir) } else { None });
        let lost: Vec<_> = made.filter(|dir| !dirs.contains(*dir)).cloned().collect();
        names.retain(|path, _| !lost.iter().any(|dir| path.starts_with(dir)));
        dirs.retain(|path| !lost.iter().any(|dir| path.starts_with(dir)));
        Self {
            live: names.clone(),
            dirs: dirs.clone(),
            durable: names,
            durable_dirs: dirs,
            changes: Vec::new(),
        }
    }

    /// Gives the inodes of all names new numbers.
    pub(super) fn renumber(&mut self, new: impl Fn(usize) -> usize) {
        for inode in self.live.values_mut().chain(self.durable.values_mut()) {
            *inode = new(*inode);
        }
    }
}

fn apply(
    change: &Change,
    all: &[Change],
    names: &mut BTreeMap<PathBuf, usize>,
    dirs: &mut BTreeSet<PathBuf>,
) {
    let inode = change.inode;
    match &change.what {
        What::Dir(dir) => drop(dirs.insert(dir.clone())),
        What::Link(path) => {
            if let Some(before) = names.insert(path.clone(), inode).filter(|b| *b != inode) {
                // The name was free when it was taken: what had it had been moved away, and a rename never
                // loses both names.
                let moved = |c: &&Change| c.inode == before && c.stamp < change.stamp;
                if let Some(What::Move { to, .. }) =
                    all.iter().rev().find(moved).map(|moved| &moved.what)
                {
                    names.insert(to.clone(), before);
                }
            }
        }
        What::Move { from, to } => {
            if names.get(from) == Some(&inode) {
                names.remove(from);
            }
            names.insert(to.clone(), inode);
        }
        What::Unlink(path) => {
            if names.get(path) == Some(&inode) {
                names.remove(path);
            }
        }
        What::MoveDir { from, to } => rename_all(names, dirs, |path| moved(path, from, to)),
        What::ExchangeDirs { a, b } => {
            rename_all(names, dirs, |path| moved(path, a, b).or_else(|| moved(path, b, a)));
        }
    }
}

/// The path below `to` of what lies below `from`.
fn moved(path: &Path, from: &Path, to: &Path) -> Option<PathBuf> {
    let rest = path.strip_prefix(from).ok()?;
    Some(if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) })
}

fn rename_all(
    names: &mut BTreeMap<PathBuf, usize>,
    dirs: &mut BTreeSet<PathBuf>,
    new: impl Fn(&Path) -> Option<PathBuf>,
) {
    let renamed = |path: PathBuf| new(&path).unwrap_or(path);
    *names = std::mem::take(names).into_iter().map(|(path, i)| (renamed(path), i)).collect();
    *dirs = std::mem::take(dirs).into_iter().map(renamed).collect();
}

impl What {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Dir(path) | Self::Link(path) | Self::Unlink(path) => path.parent(),
            Self::Move { to, .. } | Self::MoveDir { to, .. } => to.parent(),
            Self::ExchangeDirs { a, .. } => a.parent(),
        }
    }

    fn names(&self, path: &Path) -> bool {
        match self {
            Self::Dir(own) | Self::Link(own) | Self::Unlink(own) => own == path,
            Self::Move { from, to } | Self::MoveDir { from, to } => from == path || to == path,
            Self::ExchangeDirs { a, b } => a == path || b == path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_subset(names: &Names) -> BTreeSet<Vec<String>> {
        let stamps: Vec<_> = names.units().map(|unit| unit.stamp).collect();
        let subset = |bits: usize| {
            let kept = stamps.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
            let kept: Vec<_> = kept.map(|(_, stamp)| *stamp).collect();
            let left = names.surviving(&kept).live;
            left.iter().map(|(path, inode)| format!("{}={inode}", path.display())).collect()
        };
        (0..1 << stamps.len()).map(subset).collect()
    }

    fn set(images: &[&[&str]]) -> BTreeSet<Vec<String>> {
        images.iter().map(|names| names.iter().map(ToString::to_string).collect()).collect()
    }

    #[test]
    fn a_rename_never_loses_both_names() {
        let (mut names, mut stamps) = (Names::default(), 0);
        names.put(Path::new("/tmp"), 1);
        names.rename(Path::new("/tmp"), Path::new("/a"), &mut stamps);
        names.link(Path::new("/tmp"), 2, &mut stamps);
        let expected = set(&[&["/tmp=1"], &["/a=1"], &["/a=1", "/tmp=2"]]);
        assert_eq!(every_subset(&names), expected);
    }

    #[test]
    fn a_new_file_may_be_found_under_its_first_its_last_or_no_name() {
        let (mut names, mut stamps) = (Names::default(), 0);
        names.link(Path::new("/tmp"), 1, &mut stamps);
        names.rename(Path::new("/tmp"), Path::new("/a"), &mut stamps);
        assert_eq!(every_subset(&names), set(&[&[], &["/tmp=1"], &["/a=1"]]));
        names.sync(Path::new("/"));
        assert_eq!(every_subset(&names), set(&[&["/a=1"]]));
        names.unlink(Path::new("/a"), &mut stamps);
        assert_eq!(every_subset(&names), set(&[&[], &["/a=1"]]));
    }

    #[test]
    fn directories_change_places_with_all_that_is_in_them() {
        let (mut names, mut stamps) = (Names::default(), 0);
        for (dir, file, inode) in [("/a", "/a/f", 1), ("/b", "/b/g", 2)] {
            names.put_dir(Path::new(dir));
            names.put(Path::new(file), inode);
        }
        assert!(names.exchange_dirs(Path::new("/a"), Path::new("/b"), &mut stamps));
        assert!(!names.move_dir(Path::new("/a"), Path::new("/b"), &mut stamps));
        assert_eq!(every_subset(&names), set(&[&["/a/f=1", "/b/g=2"], &["/a/g=2", "/b/f=1"]]));
        names.sync(Path::new("/"));
        assert!(names.move_dir(Path::new("/b"), Path::new("/c"), &mut stamps));
        assert_eq!(every_subset(&names), set(&[&["/a/g=2", "/b/f=1"], &["/a/g=2", "/c/f=1"]]));
    }

    #[test]
    fn a_lost_directory_takes_its_files_with_it() {
        let (mut names, mut stamps) = (Names::default(), 0);
        names.create_dir(Path::new("/d"), &mut stamps);
        names.link(Path::new("/d/f"), 1, &mut stamps);
        assert_eq!(every_subset(&names), set(&[&[], &["/d/f=1"]]));
    }
}
