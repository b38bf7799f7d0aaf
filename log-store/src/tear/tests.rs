//! What a crash leaves is torn; what has changed is not.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::frame::FrameBuilder;
use crate::types::{EntryParts, LogIdParts, VoteParts};

const CHAIN: u32 = 0xC4A1_4567;
const PLACE: Place = Place { lsn: 0x0123_4567_89AB, salt: 0xBADC_0FFE };

/// A frame that was written whole at offset `at`, and zeros to the end of a later sector.
#[derive(Debug, Clone)]
struct Written {
    at: u64,
    len: usize,
    bytes: Vec<u8>,
}

/// The frame with one entry for each payload, or a vote.
fn written(at: u64, payloads: &[Vec<u8>]) -> Written {
    let mut builder = FrameBuilder::default();
    builder.begin(0);
    for (index, payload) in (0x4241..).zip(payloads) {
        let id = LogIdParts { term: 0x4141, node: 0x4242, index };
        let payload = Bytes::from(payload.clone());
        builder.add(|out| record::put_entry(out, &EntryParts { id, kind: 1, payload }));
    }
    finish(at, &mut builder)
}

fn finish(at: u64, builder: &mut FrameBuilder) -> Written {
    let mut bytes = builder.finish(PLACE, PLACE.lsn, CHAIN).0.to_vec();
    let len = bytes.len();
    let end = (at + u64_len(len)).next_multiple_of(SECTOR) + SECTOR;
    bytes.resize(usize::try_from(end - at).unwrap(), 0);
    Written { at, len, bytes }
}

fn judge(at: u64, bytes: &[u8]) -> Tear {
    let content_len = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    tear(&Unverified { at, bytes, content_len: u64_len(content_len), place: PLACE, chain: CHAIN })
}

impl Written {
    fn sectors(&self) -> usize {
        usize::try_from((self.at + u64_len(self.len) - 1) / SECTOR - self.at / SECTOR).unwrap() + 1
    }

    /// Where a sector's part lies in the bytes.
    fn piece(&self, sector: usize) -> std::ops::Range<usize> {
        let at = usize::try_from(self.at).unwrap();
        let begin = at / 512 * 512 + sector * 512;
        begin.saturating_sub(at)..begin + 512 - at
    }

    /// The first `prefix` bytes of the write, of which the sectors with a bit in `kept` arrived.
    fn left(&self, prefix: usize, kept: u32) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[prefix..].fill(0);
        let lost = (0..self.sectors()).filter(|sector| kept >> sector & 1 == 0);
        lost.for_each(|sector| bytes[self.piece(sector)].fill(0));
        bytes
    }

    /// What a crash left of it is nothing, all of it, or torn.
    fn check(&self, what: &str, left: &[u8]) {
        let is_nothing = left.iter().all(|&byte| byte == 0);
        let expected = if is_nothing { Tear::Nothing } else { Tear::Torn };
        if left != self.bytes {
            assert_eq!(judge(self.at, left), expected, "{what} of the write at {}", self.at);
        }
    }
}

/// Where a frame may begin in its sector: anywhere, its header in one or in two of them.
const PLACES: [u64; 8] = [4096, 4104, 4560, 4568, 4576, 4584, 4592, 4600];

#[test]
fn every_prefix_of_a_write_is_torn() {
    for at in PLACES {
        for payloads in [vec![vec![7; 1]], vec![vec![7; 900], vec![0; 600], vec![7; 13]]] {
            let written = written(at, &payloads);
            for prefix in 0..written.len {
                written.check(&format!("{prefix} bytes"), &written.left(prefix, u32::MAX));
            }
        }
    }
}

#[test]
fn every_subset_of_the_sectors_of_a_write_is_torn() {
    for at in PLACES {
        let written = written(at, &[vec![7; 700], vec![0; 1100], vec![7; 511]]);
        for kept in 0..1 << written.sectors() {
            for prefix in (0..=written.len).rev().step_by(61) {
                let what = format!("sectors {kept:b} of {prefix} bytes");
                written.check(&what, &written.left(prefix, kept));
            }
        }
    }
}

/// The zeroing goes through the first sector, then the second, then the rest in any order.
#[test]
fn a_crash_while_a_torn_write_is_zeroed_leaves_it_torn() {
    for at in PLACES {
        let written = written(at, &[vec![7; 700], vec![7; 700], vec![7; 511]]);
        for kept in [0b1011, 0b1101, 0b0111, 0b1110] {
            let torn = written.left(written.len, kept);
            let header_end = written.piece(1).end;
            for zeroed in 0..header_end {
                let mut left = torn.clone();
                left[..zeroed].fill(0);
                written.check(&format!("{zeroed} zeroed of sectors {kept:b}"), &left);
            }
            for zeroed in (header_end..written.len).step_by(7) {
                let mut left = torn.clone();
                left[..header_end].fill(0);
                left[zeroed / 2 + header_end / 2..zeroed].fill(0);
                written.check(&format!("up to {zeroed} zeroed of sectors {kept:b}"), &left);
            }
        }
    }
}

#[test]
fn every_flipped_bit_of_a_whole_write_is_no_tear() {
    for at in PLACES {
        let written = written(at, &[vec![0x55; 90], vec![0x55; 900], vec![0x55; 12]]);
        for bit in 0..written.len * 8 {
            let mut flipped = written.bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let found = judge(at, &flipped);
            assert!(matches!(found, Tear::Whole(_)), "bit {bit} at {at}: {found:?}");
        }
    }
}

#[test]
fn a_hole_in_another_record_does_not_excuse_the_one_that_changed() {
    let written = written(4096, &[vec![7; 100], vec![0; 1500], vec![7; 100]]);
    let flip = |byte: usize| {
        let mut flipped = written.bytes.clone();
        flipped[byte] ^= 1;
        judge(4096, &flipped)
    };
    assert!(matches!(flip(120), Tear::Whole(_)));
    assert!(matches!(flip(written.len - 50), Tear::Whole(_)));
    assert_eq!(flip(300), Tear::Torn, "its own zeros may be a hole");
}

#[test]
fn what_is_behind_a_torn_write_was_not_left_by_a_crash() {
    let written = written(4096, &[vec![7; 2000]]);
    let mut left = written.left(written.len, 0b1011);
    assert_eq!(judge(4096, &left), Tear::Torn);
    left[written.len + 16] = 1;
    assert!(matches!(judge(4096, &left), Tear::Whole(_)));
}

#[test]
fn bytes_of_another_place_are_no_tear() {
    let written = written(4600, &[vec![7; 900]]);
    let at = |at: u64, place: Place, chain: u32| {
        let whole = Unverified { at, bytes: &written.bytes, content_len: 900, place, chain };
        let mut torn = written.left(written.len, 0b01);
        torn[8] |= 1;
        (tear(&whole), tear(&Unverified { bytes: &torn, content_len: 16, ..whole }))
    };
    for (place, chain) in [
        (Place { lsn: PLACE.lsn + 8, ..PLACE }, CHAIN),
        (Place { salt: 1, ..PLACE }, CHAIN),
        (PLACE, 1),
    ] {
        assert!(matches!(at(4600, place, chain).0, Tear::Whole(_)), "{place:?} {chain}");
    }
    for garbage in [vec![0xFF; 1024], b"RFRM".repeat(256), vec![0, 0, 0, 7]] {
        let mut bytes = vec![0; 1024];
        bytes[..garbage.len()].copy_from_slice(&garbage);
        bytes[1000] = 1;
        assert!(matches!(judge(4096, &bytes), Tear::Whole(_)));
    }
}

/// A vote ends in zeros: what its last bytes were cannot be told once they do not verify.
#[test]
fn a_record_that_ends_in_zeros_may_be_torn() {
    for (committed, expected) in
        [(true, Tear::Whole("a record does not verify")), (false, Tear::Torn)]
    {
        let mut builder = FrameBuilder::default();
        builder.begin(0);
        let vote = VoteParts { term: 9, node: 3, committed };
        builder.add(|out| record::put_vote(out, vote));
        let mut written = finish(4096, &mut builder);
        written.bytes[FRAME_HEAD + 13] ^= 1;
        assert_eq!(judge(4096, &written.bytes), expected, "committed {committed}");
    }
}

#[test]
fn a_whole_record_of_an_unknown_kind_is_no_tear() {
    let mut builder = FrameBuilder::default();
    builder.begin(0);
    builder.add(|out| {
        let start = out.len();
        out.extend([0, 0, 0, 0, 16, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0]);
        let crc = crc32c::crc32c(&out[start + 4..]);
        out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        crc
    });
    let written = finish(4096, &mut builder);
    assert!(matches!(judge(4096, &written.bytes), Tear::Whole(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_a_crash_leaves_is_never_refused(
        at in 512u64..640,
        payloads in vec((0..1500usize, any::<u8>()), 1..5),
        kept: u32,
        prefix: prop::sample::Index,
        is_cut: bool,
    ) {
        let payloads: Vec<_> = payloads.iter().map(|(len, byte)| vec![byte & 3; *len]).collect();
        let written = written(at * 8, &payloads);
        let prefix = if is_cut { prefix.index(written.len) } else { written.len };
        written.check("what is left", &written.left(prefix, kept));
    }

    #[test]
    fn a_flipped_bit_of_a_whole_write_is_never_cut(
        at in 512u64..640,
        payloads in vec((0..180usize, 128u8..), 1..4),
        bit: prop::sample::Index,
    ) {
        // No padding at its end, which a longer record could be missing, and in every word of eight bytes
        // more than one bit.
        let payloads: Vec<Vec<u8>> =
            payloads.iter().map(|(words, byte)| vec![byte | 1; words * 8 + 4]).collect();
        let written = written(at * 8, &payloads);
        let bit = bit.index(written.len * 8);
        let mut flipped = written.bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(matches!(judge(at * 8, &flipped), Tear::Whole(_)), "bit {}", bit);
    }
}
