//! A disk that lost a page: what opens is a whole prefix that reaches the checkpoint, or nothing.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::support::{Node, PAGE, assert_sound, copy, eventually, is_empty, puts, small};

/// The digest after each group, by the index it ends with; and the index of the checkpoint.
struct History {
    digests: BTreeMap<u64, u128>,
    checkpointed: u64,
}

fn written(dir: &Path) -> History {
    let mut node = Node::open(dir);
    let mut digests = BTreeMap::new();
    let mut checkpointed = 0;
    for (round, prefix) in ["a", "b", "a", "c", "b", "a"].into_iter().enumerate() {
        let mut ops = puts(prefix, 500);
        for _ in 0..10 {
            let last = node.apply(ops.by_ref().take(50));
            digests.insert(last, node.view().digest());
        }
        if round == 2 {
            node.store.checkpoint().unwrap();
            checkpointed = node.store.checkpointed().unwrap().index;
        }
    }
    drop(node);
    let lock = fs::File::open(dir.join("LOCK")).unwrap();
    eventually("the dropped store is closed", || lock.try_lock().is_ok());
    History { digests, checkpointed }
}

/// The journals, with the pages that hold something.
fn journal_pages(dir: &Path) -> Vec<(PathBuf, Vec<usize>)> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(dir.join("gen-1")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let bytes = fs::read(&path).unwrap();
            let pages = bytes.chunks(PAGE).enumerate();
            let used = pages.filter(|(_, page)| !is_empty(page));
            journals.push((path, used.map(|(page, _)| page).collect()));
        }
    }
    journals
}

#[test]
fn a_lost_page_of_a_journal_never_leaves_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let history = written(dir.path());
    let (mut opened, mut refused) = (0, 0);
    for (journal, pages) in journal_pages(dir.path()) {
        let name = journal.strip_prefix(dir.path()).unwrap();
        for page in pages.iter().step_by((pages.len() / 8).max(1)) {
            let crashed = copy(dir.path());
            let file = OpenOptions::new().write(true).open(crashed.path().join(name)).unwrap();
            file.write_all_at(&[0; PAGE], (page * PAGE) as u64).unwrap();

            let Ok(node) = Node::try_open(small(crashed.path())) else {
                refused += 1;
                continue;
            };

            opened += 1;
            let view = node.view();
            let applied = view.applied().map_or(0, |id| id.index);
            assert!(applied >= history.checkpointed, "page {page}: {applied}");
            let digest = history.digests.get(&applied).expect("the end of a group");
            assert_eq!(view.digest(), *digest, "page {page}");
            assert_sound(&view);
        }
    }
    assert!(opened > 0 && opened + refused > 8, "{opened} opened, {refused} were refused");
}
