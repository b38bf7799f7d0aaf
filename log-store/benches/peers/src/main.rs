//! The log beside the crates raft-log and raft-engine, and beside the bare loop: the same entries, made
//! durable in the same ways, on the same disk, in turns of a fraction of a second. Prints Markdown.
//!
//! ```text
//!   batch     one caller: N entries, one sync, the next N
//!   threads   N threads: each hands over one entry and waits until it is durable
//!   caller    one caller that keeps N entries waiting, and does not wait for any of them
//! ```
//! In each round everyone has a turn, in changing order; what the machine does beside moves all of them. So
//! the ratios count, ours over the peer that is fastest by its median, both of the same round: what a
//! quarter, half and three quarters of the rounds are below. Many short rounds tell more than few long ones.
//! Payloads are 256 random bytes. Nobody purges, and old files are removed after the last round of a row.
//!
//! Settings by environment: `ROUNDS`, `TURN_MS`, `FORMS` and `SIZES` (words apart by blanks), `DIR`.

mod contestant;
mod engine;
mod forms;
mod ours;
mod peer;
mod signal;
mod table;

#[path = "../../load/bare.rs"]
mod bare;

use std::time::Duration;

use forms::{Form, Turn};
use table::Row;

fn main() {
    let rounds: usize = setting("ROUNDS", "41").parse().expect("ROUNDS is a number");
    let turn: u64 = setting("TURN_MS", "50").parse().expect("TURN_MS is a number");
    let turn = Duration::from_millis(turn);
    let sizes = setting("SIZES", "1 16 64 256 1000");
    std::env::set_current_dir(setting("DIR", ".")).expect("DIR is a directory");
    for form in setting("FORMS", "batch threads caller").split_whitespace() {
        let form = Form::named(form).expect("FORMS are of batch, threads, caller");
        println!("{}", table::head(form));
        for size in sizes.split_whitespace() {
            let size = size.parse().expect("SIZES are numbers");
            println!("{}", measure(form, size, rounds, turn));
        }
        println!();
    }
}

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

/// One row: all contestants from new, `rounds` times in turns.
fn measure(form: Form, size: u64, rounds: usize, turn: Duration) -> Row {
    let mut contestants = form.contestants();
    let mut turns: Vec<Vec<Turn>> = contestants.iter().map(|_| Vec::new()).collect();
    for contestant in &mut contestants {
        form.take_turn(&mut **contestant, size, turn / 4);
    }
    for round in 0..rounds {
        for step in 0..contestants.len() {
            let at = (round + step) % contestants.len();
            turns[at].push(form.take_turn(&mut *contestants[at], size, turn));
        }
        eprintln!("{}, {size}: round {} of {rounds}", form.name(), round + 1);
    }
    drop(contestants);
    Row { form, size, turns }
}
