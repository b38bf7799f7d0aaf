//! Frames: any cutting, any damage.

use proptest::prelude::*;

use super::*;
use crate::raft::wire::FrameWriter;

fn frame(blobs: &[Vec<u8>]) -> Bytes {
    let mut frame = FrameWriter::new(Kind::Forward, 16);
    for blob in blobs {
        frame.blob(&Bytes::copy_from_slice(blob));
    }
    frame.finish().joined()
}

fn read_all(reader: &mut FrameReader, chunk: Bytes) -> Vec<Bytes> {
    reader.push(chunk);
    std::iter::from_fn(|| reader.next_frame().unwrap()).map(|frame| frame.body).collect()
}

/// In pieces that are cut where `cuts` says, again and again.
fn chunks(bytes: &Bytes, cuts: &[usize]) -> Vec<Bytes> {
    let mut rest = bytes.clone();
    let mut cuts = cuts.iter().cycle();
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        let len = cuts.next().copied().unwrap_or(rest.len()).clamp(1, rest.len());
        chunks.push(rest.split_to(len));
    }
    chunks
}

#[test]
fn the_bytes_of_a_frame_are_these() {
    let mut writer = FrameWriter::new(Kind::ReadIndexReply, 9);
    writer.u8(0);
    writer.u64(7);
    let bytes = writer.finish().joined();
    let crc = crc32c::crc32c(&[1, 14, 0, 7, 0, 0, 0, 0, 0, 0, 0]).to_le_bytes();
    let mut expected = vec![11, 0, 0, 0];
    expected.extend(crc);
    expected.extend([1, 14, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes, expected);
}

#[test]
fn every_kind_has_its_byte() {
    for kind in Kind::ALL {
        assert_eq!(Kind::from_byte(kind.byte()), Some(kind));
    }
    assert_eq!((Kind::from_byte(0), Kind::from_byte(21)), (None, None));
}

#[test]
fn a_frame_within_a_chunk_is_not_copied() {
    let chunk = frame(&[vec![7; 100]]);
    let body = &read_all(&mut FrameReader::default(), chunk.clone())[0];
    assert_eq!(body.as_ptr(), chunk[FRAME_HEADER..].as_ptr());
}

#[test]
fn long_blobs_are_passed_on_and_not_copied() {
    let blob = Bytes::from(vec![7; 100_000]);
    let mut writer = FrameWriter::new(Kind::Forward, 16);
    writer.blob(&blob);
    let mut pieces = writer.finish();
    pieces.pop();
    assert_eq!(pieces.pop().map(|piece| piece.as_ptr()), Some(blob.as_ptr()));
}

#[test]
fn a_claimed_length_costs_no_memory() {
    let mut reader = FrameReader::default();
    let mut claim = u32::try_from(FRAME_BYTES_MAX).unwrap().to_le_bytes().to_vec();
    claim.extend([0; 12]);
    reader.push(claim.into());
    assert!(reader.next_frame().unwrap().is_none());
    assert!(reader.partial.capacity() <= 2 * GROW_MAX);
}

#[test]
fn a_frame_above_the_bound_is_refused_at_its_length() {
    let mut reader = FrameReader::default();
    let len = u32::try_from(FRAME_BYTES_MAX + 1).unwrap();
    reader.push(Bytes::copy_from_slice(&[&len.to_le_bytes()[..], &[0; 4]].concat()));
    assert_eq!(reader.next_frame().unwrap_err(), Malformed("a frame length out of bounds"));
}

proptest! {
    #[test]
    fn frames_survive_any_cutting(
        frames in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..4), 1..6),
        long in 0..40_000_usize,
        cuts in prop::collection::vec(1..500_usize, 1..20),
    ) {
        let mut frames = frames;
        frames[0].push(vec![5; long]);
        let encoded: Vec<Bytes> = frames.iter().map(|blobs| frame(blobs)).collect();
        let stream = Bytes::from(encoded.concat());
        let mut reader = FrameReader::default();
        let mut found = Vec::new();
        for chunk in chunks(&stream, &cuts) {
            found.extend(read_all(&mut reader, chunk));
        }
        let bodies: Vec<Bytes> = encoded.iter().map(|frame| frame.slice(FRAME_HEADER..)).collect();
        prop_assert_eq!(found, bodies);
        prop_assert!(reader.is_between_frames());
    }

    #[test]
    fn one_wrong_bit_is_noticed(
        blob in prop::collection::vec(any::<u8>(), 0..200),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let mut bytes = frame(&[blob]).to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let mut reader = FrameReader::default();
        reader.push(bytes.into());
        // A changed length may also just ask for more bytes.
        let read = reader.next_frame();
        prop_assert!(read.is_err() || (at < 4 && matches!(read, Ok(None))));
    }

    #[test]
    fn garbage_is_refused_or_waits_for_more(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut reader = FrameReader::default();
        reader.push(bytes.into());
        while let Ok(Some(_)) = reader.next_frame() {}
    }
}
