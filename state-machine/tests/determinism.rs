//! The same log gives the same state, however it is cut into groups (S1).

mod world;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use raftmap_state_machine::command::{Command, Form, Op};
use raftmap_state_machine::reply::Reply;
use raftmap_state_machine::settings::Settings;
use world::World;

fn replay(log: &[Command], group_entries: impl Iterator<Item = usize>) -> (World, Vec<Reply>) {
    let (mut world, mut replies, mut rest) = (World::new(), Vec::new(), log);
    for entries in group_entries {
        let (group, behind) = rest.split_at(entries.min(rest.len()));
        replies.extend(world.apply_all(group));
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    assert!(rest.is_empty(), "the whole log");
    (world, replies)
}

fn assert_same(one: &(World, Vec<Reply>), other: &(World, Vec<Reply>)) {
    assert_eq!(one.1, other.1, "replies");
    assert_eq!(one.0.meta, other.0.meta);
    assert_eq!(one.0.rows, other.0.rows);
}

/// Commands at their times, between them some that are no commands.
fn log(history: &[(u64, Op)]) -> Vec<Command> {
    let mut now_ms = 1_000;
    let mut log = Vec::new();
    for (place, (passed_ms, op)) in history.iter().enumerate() {
        now_ms += passed_ms;
        // Now and then a new leader's clock is behind the last one's.
        let at_ms = if place % 7 == 6 { now_ms - 500 } else { now_ms };
        let command = Command::encode(op, at_ms);
        if place % 13 == 12 {
            log.push(Command::from_bytes(command.as_bytes().slice(..command.as_bytes().len() - 1)));
        }
        log.push(command);
    }
    log
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, fork: false, ..ProptestConfig::default() })]

    #[test]
    fn groups_of_any_size_give_the_same_state(
        history in world::ops::history(60),
        sizes in proptest::collection::vec(1usize..20, 60..61),
        quota in prop_oneof![Just(None), Just(Some(5u64))],
    ) {
        let settings = Settings { keys_max: quota, range_delete_max: 4, ..Settings::default() };
        let mut log = log(&history);
        log.insert(0, Command::encode(&Op::Form(Form { cluster_id: 7, settings }), 0));
        let singly = replay(&log, std::iter::repeat(1));
        assert_same(&singly, &replay(&log, std::iter::once(log.len())));
        assert_same(&singly, &replay(&log, sizes.into_iter().chain(std::iter::repeat(1))));
    }
}

#[test]
fn a_long_log_gives_the_same_state_in_groups_of_1_to_256() {
    let mut runner = TestRunner::deterministic();
    let ops = proptest::collection::vec((0u64..20, world::ops::op()), 600..601);
    let log = log(&ops.new_tree(&mut runner).unwrap().current());
    let singly = replay(&log, std::iter::repeat(1));
    assert!(singly.0.meta.revision > 100, "the log changes much");
    for entries in [2, 3, 7, 16, 64, 255, 256] {
        assert_same(&singly, &replay(&log, std::iter::repeat(entries)));
    }
}

#[test]
fn one_skipped_command_shows_in_the_digest() {
    let log: Vec<_> = (0..50)
        .map(|n| Command::encode(&world::put(&format!("key-{}", n % 7), &n.to_string()), 1_000))
        .collect();
    let whole = replay(&log, std::iter::repeat(1)).0.meta;
    for skipped in 0..log.len() {
        let mut log = log.clone();
        log.remove(skipped);
        let meta = replay(&log, std::iter::repeat(16)).0.meta;
        assert_ne!(
            meta.digest.state_hash(meta.revision),
            whole.digest.state_hash(whole.revision),
            "without command {skipped}"
        );
    }
}
