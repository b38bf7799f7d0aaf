//! One file that is read as a segment, as FRONTIER and as IDENTITY: headers, slots, frames and records, with and
//! without right checksums.
#![no_main]

use libfuzzer_sys::fuzz_target;
use raftmap_log_store_fuzz::image;

fuzz_target!(|bytes: &[u8]| image::check(&image::one_segment(bytes)));
