//! Group D, of one file: too short, unfinished, of a version that nobody knows, or in the way of a copy.

use std::collections::BTreeSet;
use std::sync::Arc;

use raftmap_log_store::{Log, LogError};

use crate::bench::{owner, path};
use crate::cases::Case;
use crate::files::{Ward, name, told_and_untold};
use crate::oracle::Outcome;
use crate::surgery::{forge_block, forge_header, u64_at};

/// These of the group.
pub(crate) fn cases() -> Vec<Case> {
    told_and_untold(&[
        ("too-short", too_short),
        ("unfinished", unfinished),
        ("of-another-version", of_another_version),
        ("in-the-way-of-quarantine", in_the_way_of_quarantine),
    ])
}

/// Each file cut to lengths that mean something, and a next segment that never was one.
fn too_short(ward: &Ward<'_>) {
    for file in ward.left.segments.iter().cloned().chain([path("IDENTITY")]) {
        let bytes = ward.left.bytes(&file);
        let frames = ward.left.frames(&file);
        let ends = frames.iter().flat_map(|f| [f.start, f.start + 40, f.end - 1, f.end]);
        let lens: BTreeSet<_> = [0, 1, 8, 511, 512, 4095, 4096, 4097, bytes.len() - 1]
            .into_iter()
            .chain(ends)
            .collect();
        let end = frames.last().map_or(bytes.len(), |frame| frame.end);
        for len in lens.into_iter().filter(|len| *len < bytes.len()) {
            // A sealed segment may be as short as what counts of it.
            let is_short = len < end || file == *ward.left.last();
            let disk = ward.left.with(&file, |bytes| bytes.truncate(len));
            let expect = if is_short { ward.left.refused() } else { ward.left.whole() };
            ward.judge(format!("{}-{len}", name(&file)), &disk, &expect);
        }
        let disk = ward.left.with(&file, |bytes| bytes.fill(0));
        ward.judge(format!("{}-zero", name(&file)), &disk, &ward.left.refused());
        if file.extension().is_some() {
            let disk = ward.left.with(&file, |bytes| bytes[4096..].fill(0));
            ward.judge(format!("{}-header-only", name(&file)), &disk, &ward.without(&file));
        }
    }
    let next = ward.left.state.next();
    let next = path(&format!("{:016}-{next:020}.wal", ward.left.segments.len() + 1));
    for (what, content) in [
        ("empty", vec![]),
        ("short", vec![0; 100]),
        ("zero", vec![0; 4096]),
        ("whole", vec![0; 16384]),
    ] {
        let disk = ward.copy();
        disk.put(&next, content);
        ward.judge(format!("next-{what}"), &disk, &ward.left.refused());
    }
}

/// What an earlier process did not finish is removed, whatever is in it.
fn unfinished(ward: &Ward<'_>) {
    for file in ["spare.tmp", "segment.tmp", "IDENTITY.tmp", "anything.tmp"] {
        let contents = [
            vec![],
            vec![0xFF; 5000],
            ward.left.bytes(ward.left.last()),
            ward.left.bytes(&path("IDENTITY")),
        ];
        for (n, content) in contents.into_iter().enumerate() {
            let disk = ward.copy();
            disk.put(&path(file), content);
            ward.judge(format!("{file}-{n}"), &disk, &ward.left.whole());
            let opened = Log::open_by_hand(ward.bench.config(), Arc::new(disk.clone()), owner(5));
            if opened.is_ok() && disk.files().contains_key(&path(file)) {
                ward.violation(format!("{file}-{n}"), "it is still there");
            }
        }
    }
    for content in [vec![], b"sync: Input/output error".to_vec()] {
        let disk = ward.copy();
        disk.put(&path("FAILED"), content);
        ward.judge(format!("FAILED-{}", disk.steps()), &disk, &ward.left.whole());
    }
}

/// Files of a version that nobody knows yet.
fn of_another_version(ward: &Ward<'_>) {
    for version in [0_u32, 2, 3, 1 << 31] {
        let field = version.to_le_bytes();
        for file in &ward.left.segments {
            let disk = ward.left.with(file, |bytes| forge_header(bytes, 8, &field));
            let outcome =
                ward.judge(format!("{}-{version}", name(file)), &disk, &ward.left.refused());
            is_too_new(ward, outcome, version);
        }
        let disk = ward.left.with(&path("IDENTITY"), |bytes| forge_block(bytes, 8, &field));
        let outcome = ward.judge(format!("IDENTITY-{version}"), &disk, &ward.left.refused());
        is_too_new(ward, outcome, version);
        let bytes = ward.left.bytes(&path("FRONTIER"));
        let newest = if u64_at(&bytes, 32) > u64_at(&bytes, 4096 + 32) { 0 } else { 4096 };
        let disk = ward.left.with(&path("FRONTIER"), |bytes| {
            forge_block(&mut bytes[newest..newest + 512], 8, &field);
        });
        // Of version 0 there never was one: it is a slot that does not verify.
        let expect = if version == 0 { ward.left.whole() } else { ward.left.refused() };
        let outcome = ward.judge(format!("FRONTIER-{version}"), &disk, &expect);
        is_too_new(ward, outcome, version);
    }
}

fn is_too_new(ward: &Ward<'_>, outcome: Option<Outcome>, version: u32) {
    if let Some(Outcome::Refused(error)) = outcome
        && version > 1
        && !matches!(error, LogError::TooNew { found, known: 1, .. } if found == version)
    {
        ward.violation(version, format!("a version that is not known is called {error}"));
    }
}

/// Copies of earlier cuts are never overwritten.
fn in_the_way_of_quarantine(ward: &Ward<'_>) {
    let end = ward.left.last_frame().end;
    let torn = ward.left.with(ward.left.last(), |bytes| {
        // The first sector of a write did not arrive, the second did.
        let at = end.next_multiple_of(512);
        bytes[at..at + 24].fill(7);
    });
    let quarantine = path("quarantine");
    torn.put_dir(&quarantine);
    let mut taken = Vec::new();
    for n in 1..=3 {
        let copy = quarantine.join(format!("{}-{end}.{n}", name(ward.left.last())));
        torn.put(&copy, format!("an earlier cut, {n}").into_bytes());
        taken.push(copy);
    }
    ward.judge("taken-names", &torn, &ward.left.whole());
    drop(Log::open_by_hand(ward.bench.config(), Arc::new(torn.clone()), owner(5)));
    for (n, copy) in (1..).zip(&taken) {
        if torn.files().get(copy).map(Vec::as_slice)
            != Some(format!("an earlier cut, {n}").as_bytes())
        {
            ward.violation("taken-names", format!("{} was overwritten", copy.display()));
        }
    }
}
