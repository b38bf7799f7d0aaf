//! stub

/// Bytes of a segment's header.
pub(crate) const HEADER_BYTES: u64 = 4096;
