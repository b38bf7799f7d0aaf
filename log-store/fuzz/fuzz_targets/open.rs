//! A directory made of the input, and a real log changed as the input says: open, verify, inspect, dump and repair
//! must agree, and none of them may panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use raftmap_log_store_fuzz::image;

fuzz_target!(|bytes: &[u8]| {
    image::check(&image::from_bytes(bytes));
    let disk = image::real_log();
    image::mutate(&disk, bytes);
    image::check(&disk);
});
