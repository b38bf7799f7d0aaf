//! The last frame of a segment: one Seal record with the footer. Behind it nothing follows in the file.

use crate::disk::u64_len;
use crate::frame::{FRAME_HEAD, FrameBuilder, Place};
use crate::header::Header;
use crate::index::Footer;
use crate::record;
use crate::scan::salt_of;
use crate::segments::Segments;

/// A frame that seals a segment.
pub(crate) struct SealFrame {
    pub(crate) bytes: Vec<u8>,
    /// The chain value that the next segment's header repeats.
    pub(crate) chain: u32,
}

impl SealFrame {
    /// The frame for its place at `offset`; everything before is durable.
    pub(crate) fn encode(footer: &Footer, header: &Header, offset: u64, chain: u32) -> Self {
        let mut builder = FrameBuilder::default();
        builder.begin(0);
        builder.add(|out| record::put_seal(out, &footer.encode()));
        let lsn = header.start_lsn + offset;
        let place = Place { lsn, salt: salt_of(header) };
        let (bytes, chain) = builder.finish(place, lsn, chain);
        Self { bytes: bytes.to_vec(), chain }
    }

    /// Bytes of the frame.
    pub(crate) fn len(&self) -> u64 {
        u64_len(self.bytes.len())
    }
}

/// Bytes of the frame for this many entries and runs of leaders.
pub(crate) fn frame_len(entries: usize, runs: usize) -> u64 {
    u64_len(FRAME_HEAD + record::padded(record::RECORD_HEAD + Footer::len(entries, runs)))
}

/// Makes the current segment a sealed one in memory, its seal to be written at `offset`.
pub(crate) fn footer(segments: &mut Segments, offset: u64) -> Option<Footer> {
    let index = &segments.current_mut()?.index;
    let len = frame_len(index.offsets.len(), index.leaders.runs().len());
    let seal_at = u32::try_from(offset + u64_len(FRAME_HEAD)).expect("segments are below 4 GiB");
    segments.seal(seal_at, offset + len)
}
