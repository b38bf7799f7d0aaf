#!/usr/bin/env bash
# Raftmap beside etcd: three nodes of each on this machine, the same load, the same minutes, fsync on for both.
#
#   docs/bench/compare.sh              all workloads; a table in Markdown on stdout
#   ROUNDS=1 DURATION=2s docs/bench/compare.sh       a quick look
#
# Both are driven by the same closed loop with the same keys, values and histogram (`raftmap bench`, and the example
# etcd_bench, which speaks gRPC). CPU and bytes are those of all three server processes inside the measured window,
# read from /proc for both. Runs alternate, and the cluster that is not measured stands still (SIGSTOP), so that neither pays
# for the other's background work. A row shows the round with the median rate. What matters is the ratio: times are of this
# machine in these minutes.
#
# Installs etcd-server and jq from Debian if they are missing. Ends only what it started.
set -euo pipefail
cd "$(dirname "$0")/../.."

ROUNDS=${ROUNDS:-3}
DURATION=${DURATION:-10s}
KEYS=${KEYS:-100000}
PUT_CLIENTS=${PUT_CLIENTS:-1 64 256 1000}
GET_CLIENTS=${GET_CLIENTS:-64 256}
ETCD_CONNS=${ETCD_CONNS:-3} # at most; more cost etcd more than they bring on few cores
PORT=${PORT:-17700}         # 17701.. raftmap, 17711.. etcd's clients, 17721.. its peers
DIR=${DIR:-$PWD/target/bench-compare}

die() { echo "compare: $*" >&2 && exit 1; }
say() { echo "compare: $*" >&2; }

# ------------------------------------------------------------------------------------------------ programs

install() {
    local missing=()
    command -v etcd >/dev/null || missing+=(etcd-server)
    command -v jq >/dev/null || missing+=(jq)
    command -v curl >/dev/null || missing+=(curl)
    ((${#missing[@]} == 0)) || apt-get install -y "${missing[@]}" >&2
}

build() {
    if [[ -n ${RAFTMAP_BIN_DIR:-} ]]; then
        BIN=$RAFTMAP_BIN_DIR
    else
        cargo build --release --locked --bin raftmap-node --bin raftmap >&2
        cargo build --release --locked -p raftmap-client --example etcd_bench >&2
        BIN=${CARGO_TARGET_DIR:-$PWD/target}/release
    fi
    ETCD_BENCH=${ETCD_BENCH:-$BIN/examples/etcd_bench}
    [[ -x $BIN/raftmap-node && -x $BIN/raftmap && -x $ETCD_BENCH ]] || die "programs are missing in $BIN"
}

# ------------------------------------------------------------------------------------------------ clusters

ETCD_PIDS=()
RAFTMAP_PIDS=()

start_etcd() {
    local i cluster=''
    for i in 1 2 3; do cluster+=${cluster:+,}e$i=http://127.0.0.1:$((PORT + 20 + i)); done
    for i in 1 2 3; do
        etcd --name "e$i" --data-dir "$DIR/etcd-$i" --initial-cluster "$cluster" --initial-cluster-state new \
            --listen-client-urls "http://$(etcd_at "$i")" --advertise-client-urls "http://$(etcd_at "$i")" \
            --listen-peer-urls "http://127.0.0.1:$((PORT + 20 + i))" \
            --initial-advertise-peer-urls "http://127.0.0.1:$((PORT + 20 + i))" \
            --quota-backend-bytes $((8 << 30)) >"$DIR/etcd-$i.log" 2>&1 &
        ETCD_PIDS+=("$!")
    done
}

start_raftmap() {
    local i cluster=''
    for i in 1 2 3; do cluster+=${cluster:+,}$i=$(raftmap_at "$i"); done
    for i in 1 2 3; do
        "$BIN/raftmap-node" --id "$i" --listen "$(raftmap_at "$i")" --data-dir "$DIR/raftmap-$i" \
            --initial-cluster "$cluster" >"$DIR/raftmap-$i.log" 2>&1 &
        RAFTMAP_PIDS+=("$!")
    done
}

etcd_at() { echo "127.0.0.1:$((PORT + 10 + $1))"; }
raftmap_at() { echo "127.0.0.1:$((PORT + $1))"; }
all() { echo "$("$1" 1),$("$1" 2),$("$1" 3)"; }
list() { local IFS=, && echo "$*"; }

stop() {
    local pids=("${ETCD_PIDS[@]}" "${RAFTMAP_PIDS[@]}")
    ((${#pids[@]} == 0)) || kill -CONT "${pids[@]}" 2>/dev/null || true
    ((${#pids[@]} == 0)) || kill "${pids[@]}" 2>/dev/null || true
    wait
}

# within SECONDS WHAT COMMAND...
within() {
    local until=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < until)) || die "$what: not in time; logs are in $DIR"
        sleep 0.2
    done
}

etcd_answers() {
    local i
    for i in 1 2 3; do
        curl -sf --max-time 2 "http://$(etcd_at "$i")/v3/kv/range" -d '{"key":"YQ=="}' || return 1
    done
}

raftmap_answers() {
    local i
    for i in 1 2 3; do curl -sf --max-time 2 "http://$(raftmap_at "$i")/v1/kv?limit=1" || return 1; done
}

etcd_leader() {
    local i
    for i in 1 2 3; do
        curl -s "http://$(etcd_at "$i")/v3/maintenance/status" -d '{}' |
            jq -e '.leader == .header.member_id' >/dev/null && etcd_at "$i" && return
    done
    die "etcd has no leader"
}

# Lets one cluster run and the other stand still, and waits until every node of it answers.
turn_to() {
    case $1 in
        etcd) kill -STOP "${RAFTMAP_PIDS[@]}" && kill -CONT "${ETCD_PIDS[@]}" ;;
        raftmap) kill -STOP "${ETCD_PIDS[@]}" && kill -CONT "${RAFTMAP_PIDS[@]}" ;;
    esac
    within 60 "$1 serves" "${1}_answers"
}

# ------------------------------------------------------------------------------------------------ runs

# run SYSTEM WORKLOAD CLIENTS TARGET OPTIONS...: one report as JSON.
run() {
    local system=$1 workload=$2 clients=$3 target=$4 conns=$ETCD_CONNS
    shift 4
    turn_to "$system"
    local common=("$workload" --clients "$clients" --duration "$DURATION" --keys "$KEYS" --output json "$@")
    if [[ $system == raftmap ]]; then
        "$BIN/raftmap" bench "${common[@]}" --target "$target" --pids "$(list "${RAFTMAP_PIDS[@]}")" \
            --endpoints "$(all raftmap_at)"
    else
        ((clients >= conns)) || conns=$clients
        local endpoints
        if [[ $target == leader ]]; then endpoints=$(etcd_leader); else endpoints=$(all etcd_at); fi
        "$ETCD_BENCH" "${common[@]}" --conns "$conns" --pids "$(list "${ETCD_PIDS[@]}")" --endpoints "$endpoints"
    fi
}

# The report with the median rate of several.
median() { jq -s 'sort_by(.operations_per_second) | .[(length - 1) / 2 | floor]'; }

# measure WORKLOAD CLIENTS TARGET OPTIONS...: a row of the table.
measure() {
    local workload=$1 clients=$2 target=$3 round system
    for ((round = 1; round <= ROUNDS; round++)); do
        for system in etcd raftmap; do
            say "$workload, $clients clients, $target: $system, round $round of $ROUNDS"
            run "$system" "$@" >>"$DIR/$workload-$clients-$target.$system"
        done
    done
    row "$workload" "$clients" "$target"
}

row() {
    local name=$1-$2-$3
    jq -rn --arg name "$1, $2 clients, $3" --arg kind "$1" \
        --argjson e "$(median <"$DIR/$name.etcd")" --argjson r "$(median <"$DIR/$name.raftmap")" '
        def ms: . / 10 | round / 100;
        def short: if . == null then "-" elif . >= 100 then round else (. * 100 | round / 100) end;
        def over($a; $b): if ($a // 0) == 0 or ($b // 0) == 0 then "-" else ($a / $b * 100 | round / 100) end;
        def errors: [.errors[]] | add // 0;
        ($e.latency_us[$kind]) as $el | ($r.latency_us[$kind]) as $rl | ($e.nodes) as $en | ($r.nodes) as $rn |
        [ $name,
          ($e.operations_per_second | round), ($r.operations_per_second | round),
          "**\(over($r.operations_per_second; $e.operations_per_second))**",
          "\($el.p50 | ms) / \($rl.p50 | ms)", over($rl.p50; $el.p50),
          "\($el.p99 | ms) / \($rl.p99 | ms)", over($rl.p99; $el.p99),
          "\($en.cpu_seconds_per_100k | short) / \($rn.cpu_seconds_per_100k | short)",
          over($rn.cpu_seconds_per_100k; $en.cpu_seconds_per_100k),
          "\($en.write_bytes_per_operation | short) / \($rn.write_bytes_per_operation | short)",
          over($rn.write_bytes_per_operation; $en.write_bytes_per_operation),
          "\($en.resident_bytes_max / 1048576 | round) / \($rn.resident_bytes_max / 1048576 | round)",
          over($rn.resident_bytes_max; $en.resident_bytes_max),
          "\($e | errors) / \($r | errors)"
        ] | "| " + (map(tostring) | join(" | ")) + " |"'
}

head_of_table() {
    echo "$(nproc) cores, Linux $(uname -r), $(etcd --version | head -n 1), load average before: $(cut -d' ' -f1-3 /proc/loadavg)."
    echo "Median of $ROUNDS rounds of $DURATION, 16 B keys, 256 B values, $KEYS keys; pairs are etcd / raftmap, ratios raftmap over etcd."
    echo
    echo '| workload | etcd ops/s | raftmap ops/s | ratio | p50 ms | ratio | p99 ms | ratio | CPU s per 100k | ratio | B written per op | ratio | RSS MiB, largest node | ratio | errors |'
    echo '| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |'
}

main() {
    local clients target
    install
    build
    rm -rf "$DIR"
    mkdir -p "$DIR"
    trap stop EXIT
    trap 'exit 130' INT TERM
    start_etcd
    start_raftmap
    within 60 "etcd forms" etcd_answers
    within 60 "raftmap forms" raftmap_answers
    head_of_table
    for clients in $PUT_CLIENTS; do measure put "$clients" all; done
    # Every key is written once, so that all gets find one.
    run etcd get 64 all --warmup 1ms >/dev/null
    run raftmap get 64 all --warmup 1ms >/dev/null
    for target in leader all; do
        for clients in $GET_CLIENTS; do measure get "$clients" "$target" --no-load; done
    done
}

main
