//! The log and the bare loop in turns, a few milliseconds each: what the machine does beside moves both.
//! Prints the medians and their ratio. `cargo bench -p raftmap-log-store --bench ratio`

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod load;

use std::sync::Arc;
use std::time::{Duration, Instant};

use load::{Bare, IN_FLIGHT, Load, frame_len};

const TURNS: usize = 150;
const TURN: Duration = Duration::from_millis(12);

fn main() {
    println!(
        "in flight |  bare loop/s |  one append/s   ratio | one by one/s   ratio |     inline/s   ratio"
    );
    for in_flight in IN_FLIGHT {
        let dirs = [(); 3].map(|()| tempfile::tempdir_in(".").expect("a directory"));
        let [batch, across, inline] = [&dirs[0], &dirs[1], &dirs[2]].map(Load::new);
        let mut bare = Bare::new();
        let bytes = vec![7; frame_len(in_flight)];
        let rounds = rounds_a_turn(&mut bare, &bytes);
        let mut rates = [const { Vec::new() }; 4];
        for _ in 0..TURNS {
            let begin = Instant::now();
            (0..rounds).for_each(|_| bare.round(&bytes));
            let count = rounds * in_flight;
            let took = [
                begin.elapsed(),
                batch.one_append(count, in_flight),
                across.across_threads(count, in_flight),
                inline.inline(count, in_flight),
            ];
            for (rates, took) in rates.iter_mut().zip(took) {
                rates.push(f64::from(u32::try_from(count).expect("few")) / took.as_secs_f64());
            }
            [&batch, &across, &inline].into_iter().for_each(purge);
        }
        let [bare, batch, across, inline] = rates.map(median);
        print!("{in_flight:>9} | {bare:>12.0}");
        [batch, across, inline]
            .iter()
            .for_each(|rate| print!(" | {rate:>12.0}   {:>5.2}", rate / bare));
        println!();
    }
}

/// Old segments go, as in a real node.
fn purge(load: &Arc<Load>) {
    load.purge();
}

fn rounds_a_turn(bare: &mut Bare, bytes: &[u8]) -> u64 {
    let begin = Instant::now();
    (0..50).for_each(|_| bare.round(bytes));
    let round = begin.elapsed() / 50;
    u64::try_from(TURN.as_nanos() / round.as_nanos().max(1)).expect("few").max(1)
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
