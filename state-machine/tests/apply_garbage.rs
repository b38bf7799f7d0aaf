//! Bytes that nobody meant: decoders give up cleanly, apply refuses, and what decodes was meant.

mod world;

use bytes::Bytes;
use proptest::prelude::*;
use raftmap_state_machine::change::Change;
use raftmap_state_machine::command::{Command, Op};
use raftmap_state_machine::meta::Meta;
use raftmap_state_machine::record::Record;
use raftmap_state_machine::reply::Reply;
use world::World;

/// A command with a few bytes changed, removed or added.
fn mutilated() -> impl Strategy<Value = Bytes> {
    let wounds =
        proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..4);
    (world::ops::op(), any::<u64>(), wounds).prop_map(|(op, at_ms, wounds)| {
        let mut bytes = Command::encode(&op, at_ms).as_bytes().to_vec();
        for (place, byte, kind) in wounds {
            let at = place.index(bytes.len().max(1));
            match kind {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.insert(at.min(bytes.len()), byte),
            }
        }
        Bytes::from(bytes)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, fork: false, ..ProptestConfig::default() })]

    #[test]
    fn a_mutilated_command_is_another_command_or_none(bytes in mutilated()) {
        let command = Command::from_bytes(bytes);
        if let Ok((at_ms, op)) = command.decode() {
            // One meaning, one encoding: what decodes is exactly what encode writes.
            prop_assert_eq!(Command::encode(&op, at_ms), command);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        let _ = Command::from_bytes(bytes.clone()).decode();
        let _ = Record::decode(&bytes);
        let _ = Change::decode(&bytes);
        let _ = Meta::decode(&bytes);
        if let Ok(reply) = Reply::decode(&bytes) {
            prop_assert_eq!(reply.encode(), bytes);
        }
    }

    #[test]
    fn a_store_that_is_fed_garbage_stays_coherent(
        commands in proptest::collection::vec(mutilated(), 1..12),
        honest in world::ops::op(),
    ) {
        let mut world = World::new();
        world.apply(&honest);
        let commands: Vec<_> = commands.into_iter().map(Command::from_bytes).collect();
        let replies = world.apply_all(&commands);
        prop_assert_eq!(replies.len(), commands.len());
    }

    #[test]
    fn every_command_comes_back_as_it_was(op in world::ops::op(), at_ms: u64) {
        prop_assert_eq!(Command::encode(&op, at_ms).decode(), Ok((at_ms, op)));
    }
}

#[test]
fn every_cut_of_a_command_is_malformed() {
    let commands = [world::put_ttl("key", "value", 5), Op::Clear, Op::ExpireDue { max: 300 }];
    for op in commands {
        let command = Command::encode(&op, 1);
        for end in 0..command.as_bytes().len() {
            let cut = Command::from_bytes(command.as_bytes().slice(..end));
            assert!(cut.decode().is_err(), "{command} cut to {end} bytes");
        }
    }
}

#[test]
fn a_short_command_can_be_shown() {
    assert_eq!(Command::from_bytes(Bytes::new()).to_string(), "malformed, 0 bytes");
    assert_eq!(Command::encode(&Op::Tick, 1).to_string(), "tick, 10 bytes");
}
