#!/usr/bin/env bash
# The log beside the crates raft-log and raft-engine and the bare loop, on this machine: tables in Markdown on stdout.
#
#   docs/bench/log-peers.sh                                      everything, about five minutes
#   ROUNDS=3 FORMS=batch SIZES='1 1000' docs/bench/log-peers.sh  a quick look
#
# All of them are driven by one program (log-store/benches/peers, a workspace of its own) in turns of TURN_MS, in DIR, which
# should be on the disk that is meant. Everything they wrote is removed at the end. What matters is the ratio of one round: times
# are of this machine in these minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."

export ROUNDS=${ROUNDS:-41}
export TURN_MS=${TURN_MS:-50}
export FORMS=${FORMS:-batch threads caller}
export SIZES=${SIZES:-1 16 64 256 1000}
TARGET=${CARGO_TARGET_DIR:-$PWD/target}
export DIR=${DIR:-$TARGET/log-peers}

cargo build --release --locked --manifest-path log-store/benches/peers/Cargo.toml --target-dir "$TARGET" >&2
mkdir -p "$DIR"

echo "$(nproc) cores, Linux $(uname -r), $(stat -f -c %T "$DIR"), load average before: $(cut -d' ' -f1-3 /proc/loadavg)."
echo "$ROUNDS rounds of $TURN_MS ms a turn, payloads of 256 random bytes."
echo
"$TARGET/release/raftmap-log-peers"
