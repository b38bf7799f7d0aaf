#!/usr/bin/env bash
# A real cluster on this machine: a failover demonstration with assertions, and a cluster to drive by hand.
#
#   ./test-cluster.sh            builds, runs the demonstration, exits non-zero at the first thing that is not as it should be
#   ./test-cluster.sh help       the commands that drive a cluster by hand
#
# It waits for conditions, each with a deadline, never for a fixed time. It ends only processes that it started: each
# node's pid is kept beside its data, and a pid counts only while its command line names that directory.
set -euo pipefail
export LC_ALL=C # one order for sort and comm, a point in decimals
cd "$(dirname "$0")"

ROOT=$PWD/target/test-cluster
DEMO=$ROOT/demo # the demonstration's files, made anew by each run
HAND=$ROOT/hand # those of a cluster that is driven by hand, kept until they are removed
PORTS=16        # how many consecutive ports a cluster may use
POLL=0.05       # seconds between two looks at a condition

# Small windows, so that a node that was down for a moment is past the log and needs a snapshot.
DEMO_OPTIONS=(--checkpoint-bytes 1MiB --log-keep-entries 1000)

DIR=      # of the cluster in use
BIN=      # of the programs
BASE=     # node N listens on port BASE + N - 1
STARTED=0 # nodes 1 to STARTED have been started once
OPTIONS=()

# ------------------------------------------------------------------------------------------------ words

bold() { if [[ -t 1 ]]; then printf '\033[1m%s\033[0m\n' "$*"; else printf '%s\n' "$*"; fi; }
step() { STEPS=$((STEPS + 1)) && echo && bold "$STEPS. $*"; }
say() { printf '   %s\n' "$*"; }
passed() { CHECKS=$((CHECKS + 1)) && printf '   ok  %s\n' "$*"; }
die() { printf 'test-cluster: %s\n' "$*" >&2 && exit 1; }

STEPS=0
CHECKS=0

# What is not as it should be, the last words of every node, and the end.
fail() {
    local dir
    printf '   NOT %s\n' "$*" >&2
    for dir in "$DIR"/node-*; do
        [[ -f $dir/log ]] || continue
        printf '\n--- %s (last lines)\n' "$dir/log" >&2
        tail -n 10 "$dir/log" | cut -c 1-240 >&2
    done
    printf '\nNot as it should be, in step %s: %s\n' "$STEPS" "$*" >&2
    exit 1
}

# check WHAT COMMAND...: the command must succeed, now.
check() {
    local what=$1
    shift
    if "$@"; then passed "$what"; else fail "$what"; fi
}

# within SECONDS WHAT COMMAND...: the command must succeed before the deadline.
within() {
    local limit=$1 what=$2 begin took
    shift 2
    begin=$(now_ms)
    until "$@"; do
        took=$(($(now_ms) - begin))
        ((took < limit * 1000)) || fail "$what (within $limit s)"
        sleep "$POLL"
    done
    took=$(($(now_ms) - begin))
    passed "$what ($took ms)"
}

now_ms() { local t=${EPOCHREALTIME/[.,]/} && echo $((t / 1000)); }

# ------------------------------------------------------------------------------------------------ programs and ports

build() {
    if [[ -n ${RAFTMAP_BIN_DIR:-} ]]; then
        BIN=$(cd "$RAFTMAP_BIN_DIR" && pwd)
    else
        cargo build --release --locked --bin raftmap-node --bin raftmap
        BIN=${CARGO_TARGET_DIR:-$PWD/target}/release
    fi
    [[ -x $BIN/raftmap-node && -x $BIN/raftmap ]] || die "no raftmap-node and raftmap in $BIN"
    command -v curl >/dev/null || die "curl is needed"
}

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

ports_are_free() {
    local port
    for ((port = $1; port < $1 + PORTS; port++)); do port_is_free "$port" || return 1; done
}

# The first port of a free row: RAFTMAP_TEST_PORT, or 7701 and up.
choose_ports() {
    if [[ -n ${RAFTMAP_TEST_PORT:-} ]]; then
        BASE=$RAFTMAP_TEST_PORT
        ports_are_free "$BASE" || die "ports $BASE to $((BASE + PORTS - 1)) are not all free"
        return
    fi
    for ((BASE = 7701; BASE < 9700; BASE += 100)); do ports_are_free "$BASE" && return; done
    die "no $PORTS free ports in a row from 7701 on"
}

# ------------------------------------------------------------------------------------------------ nodes

node_dir() { echo "$DIR/node-$1"; }
address() { echo "127.0.0.1:$((BASE + $1 - 1))"; }

endpoints() {
    local list='' id
    for ((id = 1; id <= STARTED; id++)); do list+=${list:+,}$(address "$id"); done
    echo "$list"
}

# The node's pid while it runs. A number that meanwhile belongs to another program does not count.
pid_of() {
    local dir pid
    dir=$(node_dir "$1")
    pid=$(cat "$dir/pid" 2>/dev/null) || return 1
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF "$dir/data" || return 1
    echo "$pid"
}

runs() { pid_of "$1" >/dev/null; }
is_down() { ! runs "$1"; }

signal() {
    local pid
    pid=$(pid_of "$2") || die "node $2 does not run"
    kill "-$1" "$pid"
}

# start_node ID OPTIONS...: the process goes on when this script ends.
start_node() {
    local id=$1 dir
    dir=$(node_dir "$id")
    shift
    ! runs "$id" || die "node $id runs already"
    mkdir -p "$dir"
    rm -f "$dir/pid" "$dir/exit"
    # shellcheck disable=SC2016 # the inner shell expands its own arguments
    setsid bash -c '
        dir=$1; shift
        "$@" >>"$dir/log" 2>&1 &
        echo "$!" >"$dir/pid.new" && mv "$dir/pid.new" "$dir/pid"
        wait "$!"; echo "$?" >"$dir/exit"
    ' node "$dir" "$BIN/raftmap-node" --id "$id" --listen "$(address "$id")" --data-dir "$dir/data" \
        "${OPTIONS[@]}" "$@" </dev/null >/dev/null 2>&1 &
    disown
    local begin
    begin=$(now_ms)
    until [[ -f $dir/pid ]]; do
        (($(now_ms) - begin < 5000)) || die "node $id did not start"
        sleep "$POLL"
    done
    ((id <= STARTED)) || STARTED=$id
}

start_first() {
    local count=$1 list='' id
    for ((id = 1; id <= count; id++)); do list+=${list:+,}$id=$(address "$id"); done
    for ((id = 1; id <= count; id++)); do start_node "$id" --initial-cluster "$list"; done
}

kill_node() {
    signal KILL "$1"
    local begin
    begin=$(now_ms)
    until is_down "$1"; do
        (($(now_ms) - begin < 5000)) || die "node $1 does not end"
        sleep "$POLL"
    done
}

# Ends every node of the cluster in use: in order within 10 s, or at once with KILL.
end_nodes() {
    local how=$1 dir pid begin
    begin=$(now_ms)
    for dir in "$DIR"/node-*; do
        pid=$(pid_of "${dir##*node-}") || continue
        # A stopped process must go on to hear the signal; one that ended meanwhile is as wanted.
        kill -CONT "$pid" 2>/dev/null || true
        kill "-$how" "$pid" 2>/dev/null || true
    done
    for dir in "$DIR"/node-*; do
        while pid=$(pid_of "${dir##*node-}"); do
            if (($(now_ms) - begin > 12000)); then kill -KILL "$pid" 2>/dev/null || true; fi
            sleep "$POLL"
        done
    done
}

# ------------------------------------------------------------------------------------------------ questions

client() { "$BIN/raftmap" --endpoints "$(endpoints)" "$@"; }
at() { local id=$1 && shift && "$BIN/raftmap" --endpoints "$(address "$id")" "$@"; }
quietly() { "$@" >/dev/null 2>&1; }

# field ID NAME: a number of the node's status; empty if there is none.
field() {
    { curl -s --max-time 2 "http://$(address "$1")/v1/status" || true; } |
        { grep -o "\"$2\":[0-9]*" || true; } | head -n 1 | cut -d: -f2
}

is_ready() { curl -sf --max-time 2 -o /dev/null "http://$(address "$1")/readyz"; }

all_ready() {
    local id
    for id in "$@"; do is_ready "$id" || return 1; done
}

# The leader on which all these nodes agree.
agreed_leader() {
    local id leader='' each
    for id in "$@"; do
        each=$(field "$id" leader)
        [[ -n $each && ${leader:-$each} == "$each" ]] || return 1
        leader=$each
    done
    echo "$leader"
}

agree_on() { [[ $(agreed_leader "${@:2}") == "$1" ]]; }
agree() { agreed_leader "$@" >/dev/null; }

has_caught_up() {
    local leader=$1 id=$2 applied committed
    committed=$(field "$leader" committed_index)
    applied=$(field "$id" applied_index)
    [[ -n $committed && -n $applied ]] && ((applied >= committed))
}

voters() { client member list 2>/dev/null | grep -c ' voter ' || true; }
has_voters() { [[ $(voters) == "$1" ]]; }

# Log index and digest of what a node holds, of one moment.
state_of() {
    { curl -s --max-time 2 "http://$(address "$1")/v1/status" || true; } |
        { grep -o '"\(applied_index\|digest\)":[^,}]*' || true; } | sort | tr '\n' ' '
}

# At one log index all nodes have one digest.
hold_the_same() {
    local first each id
    first=$(state_of "$1")
    [[ $first == *applied_index*digest* ]] || return 1
    for id in "${@:2}"; do
        each=$(state_of "$id")
        [[ $each == "$first" ]] || return 1
    done
}

exits_with() {
    local wanted=" $1 " got=0
    shift
    "$@" >/dev/null 2>&1 || got=$?
    [[ $wanted == *" $got "* ]]
}

gives() {
    local wanted=$1
    shift
    [[ $("$@" 2>/dev/null) == "$wanted" ]]
}

# ------------------------------------------------------------------------------------------------ writers

# Writers put one key after the other and note which writes were acknowledged (exit 0), which may have happened
# (exit 4), and in between nothing is retried by them.
WRITERS=()

start_writers() {
    local w
    rm -f "$DIR/stop-writers"
    touch "$DIR/acknowledged" "$DIR/unknown"
    for w in "$@"; do
        write_for_ever "$w" &
        WRITERS+=("$!")
    done
}

write_for_ever() {
    local w=$1 n=0 code
    while [[ ! -e $DIR/stop-writers ]]; do
        n=$((n + 1)) code=0
        client --timeout 5s put "w/$w/$n" "value-$w-$n" >/dev/null 2>&1 || code=$?
        case $code in
            0) printf 'w/%s/%s\tvalue-%s-%s\n' "$w" "$n" "$w" "$n" >>"$DIR/acknowledged" ;;
            4) printf 'w/%s/%s\tvalue-%s-%s\n' "$w" "$n" "$w" "$n" >>"$DIR/unknown" ;;
        esac
    done
}

stop_writers() {
    touch "$DIR/stop-writers"
    ((${#WRITERS[@]} == 0)) || wait "${WRITERS[@]}"
    WRITERS=()
}

acknowledged() { wc -l <"$DIR/acknowledged"; }
has_acknowledged() { (($(acknowledged) >= $1)); }

# Every acknowledged write is there with its value, and nothing is there that nobody wrote.
nothing_is_lost() {
    client list w/ | sort >"$DIR/found" || return 1
    sort "$DIR/acknowledged" | comm -23 - "$DIR/found" >"$DIR/lost"
    sort "$DIR/acknowledged" "$DIR/unknown" | comm -13 - "$DIR/found" >"$DIR/invented"
    [[ ! -s $DIR/lost && ! -s $DIR/invented ]]
}

check_nothing_is_lost() {
    local what
    what="all $(acknowledged) acknowledged writes are there, nothing else is ($(wc -l <"$DIR/unknown") of unknown outcome)"
    check "$what" nothing_is_lost
}

# ------------------------------------------------------------------------------------------------ the demonstration

demonstrate() {
    local begin=$SECONDS
    DIR=$DEMO
    # Left over only if an earlier run was itself killed.
    end_nodes KILL
    rm -rf "$DIR"
    mkdir -p "$DIR"
    choose_ports
    OPTIONS=("${DEMO_OPTIONS[@]}")
    trap finish EXIT
    trap 'exit 130' INT TERM

    three_nodes
    leader_killed
    killed_node_returns
    grow_to_five
    leader_moved
    minority_killed
    majority_killed
    snapshot_catch_up
    all_killed
    orderly_stop

    echo
    bold "All $CHECKS checks held, in $((SECONDS - begin)) s."
}

finish() {
    local code=$?
    trap - EXIT
    touch "$DIR/stop-writers"
    end_nodes KILL
    wait
    exit "$code"
}

three_nodes() {
    step "Three nodes form a cluster"
    start_first 3
    within 30 "all three are ready" all_ready 1 2 3
    within 10 "they agree on a leader" agree 1 2 3
    check "they have three voters" has_voters 3
    check "a key can be written" quietly client put greeting hello
    local id
    for id in 1 2 3; do check "node $id reads it" gives hello at "$id" get greeting; done
    check "a second create is refused" exits_with 1 client put greeting x --if-absent
    check "the refusal changed nothing" gives hello client get greeting
}

leader_killed() {
    step "The leader is killed (kill -9) under writes"
    local leader before begin
    leader=$(agreed_leader 1 2 3)
    start_writers a b c d
    within 30 "four writers have 200 writes acknowledged" has_acknowledged 200
    kill_node "$leader"
    begin=$(now_ms)
    before=$(acknowledged)
    say "node $leader, the leader, is dead after $before writes"
    within 15 "writes are acknowledged again" has_acknowledged $((before + 5))
    say "$(($(now_ms) - begin)) ms from the kill to the fifth write after it"
    within 30 "200 more are acknowledged" has_acknowledged $((before + 200))
    stop_writers
    check_nothing_is_lost
    KILLED=$leader
}

killed_node_returns() {
    step "The killed node comes back"
    start_node "$KILLED"
    within 30 "node $KILLED is ready" is_ready "$KILLED"
    within 10 "all three agree on a leader" agree 1 2 3
    within 30 "it has caught up" has_caught_up "$(agreed_leader 1 2 3)" "$KILLED"
    within 10 "all three hold the same, by digest" hold_the_same 1 2 3
}

grow_to_five() {
    step "Two more nodes join while writes go on"
    local before
    start_writers e f
    start_node 4 --join "$(address 1)"
    within 60 "node 4 is a voter" has_voters 4
    start_node 5 --join "$(address 2)"
    within 60 "node 5 is a voter" has_voters 5
    within 30 "all five are ready" all_ready 1 2 3 4 5
    before=$(acknowledged)
    within 20 "writes go on" has_acknowledged $((before + 50))
    stop_writers
    within 20 "all five hold the same, by digest" hold_the_same 1 2 3 4 5
    check_nothing_is_lost
}

leader_moved() {
    step "Leadership is moved"
    local leader to
    within 10 "all five agree on a leader" agree 1 2 3 4 5
    leader=$(agreed_leader 1 2 3 4 5)
    to=$((leader % 5 + 1))
    check "node $leader hands over to node $to" quietly client leader transfer "$to"
    within 10 "all five agree on node $to" agree_on "$to" 1 2 3 4 5
    check "a key can be written" quietly client put moved "to-$to"
}

minority_killed() {
    step "A minority is killed: the leader and one more of five"
    local leader other alive=() id
    leader=$(agreed_leader 1 2 3 4 5)
    other=$((leader % 5 + 1))
    kill_node "$leader"
    kill_node "$other"
    for id in 1 2 3 4 5; do [[ $id == "$leader" || $id == "$other" ]] || alive+=("$id"); done
    say "nodes $leader and $other are dead, ${alive[*]} are alive"
    within 15 "the others agree on a new leader" agree_on_living "${alive[@]}"
    check "a key can be written" quietly client put minority "survived"
    for id in "${alive[@]}"; do check "node $id reads it" gives survived at "$id" get minority; done
    check_nothing_is_lost
    DEAD=("$leader" "$other") ALIVE=("${alive[@]}")
}

# The living agree on a leader that is one of them.
agree_on_living() {
    local leader
    leader=$(agreed_leader "$@") && [[ " $* " == *" $leader "* ]]
}

majority_killed() {
    step "A third node is killed: two of five must not go on alone"
    local third=${ALIVE[0]} rest=("${ALIVE[@]:1}")
    kill_node "$third"
    check "a write is not acknowledged" exits_with "3 4" client --timeout 3s put alone "x"
    check "a linearizable read is not answered" exits_with 3 client --timeout 3s get greeting
    check "a stale read is" gives hello at "${rest[0]}" get greeting --consistency stale
    start_node "$third"
    within 30 "with a majority back, writes go on" quietly client --timeout 2s put again "yes"
    start_node "${DEAD[0]}"
    start_node "${DEAD[1]}"
    within 30 "all five are ready" all_ready 1 2 3 4 5
    within 30 "all five hold the same, by digest" hold_the_same 1 2 3 4 5
    check_nothing_is_lost
}

snapshot_catch_up() {
    step "A node that was down for longer than the log reaches back takes a snapshot"
    local leader down last
    within 10 "all five agree on a leader" agree 1 2 3 4 5
    leader=$(agreed_leader 1 2 3 4 5)
    down=$((leader % 5 + 1))
    last=$(field "$down" last_index)
    kill_node "$down"
    say "node $down is dead, the last entry in its log is $last"
    write_past "$leader" $((last + 2500))
    within 60 "the leader's log begins after entry $last" log_begins_after "$leader" "$last"
    start_node "$down"
    within 60 "node $down has caught up" has_caught_up "$leader" "$down"
    check "what it has is not from its log: it took a snapshot" took_snapshot_after "$down" "$last"
    within 20 "all five hold the same, by digest" hold_the_same 1 2 3 4 5
    check_nothing_is_lost
}

# Writes until the log has an entry of this number.
write_past() {
    local leader=$1 wanted=$2 until=$((SECONDS + 60))
    while (($(field "$leader" last_index) < wanted)); do
        ((SECONDS < until)) || fail "entry $wanted is written (within 60 s)"
        quietly client bench put --clients 32 --duration 500ms --warmup 1ms --keys 2000 || true
    done
    say "the leader's log is at entry $(field "$leader" last_index)"
}

# The log is given up to a checkpoint, which comes by itself; asking for one makes it come now.
log_begins_after() {
    local first
    at "$1" snapshot >/dev/null 2>&1 || true
    first=$(field "$1" first_index)
    [[ -n $first ]] && ((first > $2))
}

# A log that goes on from a snapshot begins after it, and is empty (0) until the next entry comes.
took_snapshot_after() {
    local first
    first=$(field "$1" first_index)
    [[ -n $first ]] && ((first == 0 || first > $2))
}

all_killed() {
    step "All five are killed at once"
    local id
    for id in 1 2 3 4 5; do signal KILL "$id"; done
    for id in 1 2 3 4 5; do within 5 "node $id is dead" is_down "$id"; done
    for id in 1 2 3 4 5; do start_node "$id"; done
    within 30 "all five are ready" all_ready 1 2 3 4 5
    check_nothing_is_lost
    within 20 "all five hold the same, by digest" hold_the_same 1 2 3 4 5
}

orderly_stop() {
    step "All five stop in order"
    local id
    for id in 1 2 3 4 5; do signal TERM "$id"; done
    for id in 1 2 3 4 5; do
        within 15 "node $id stops" is_down "$id"
        within 5 "with exit code 0" ended_with_0 "$id"
    done
}

ended_with_0() { [[ $(cat "$(node_dir "$1")/exit" 2>/dev/null) == 0 ]]; }

# ------------------------------------------------------------------------------------------------ by hand

# What `up` has chosen, for the commands after it.
load_hand() {
    DIR=$HAND
    [[ -f $DIR/cluster ]] || die "there is no cluster; $0 up starts one"
    read -r BASE STARTED BIN <"$DIR/cluster"
}

save_hand() { echo "$BASE $STARTED $BIN" >"$DIR/cluster"; }

up() {
    local count=${1:-3} id ids=()
    [[ $count =~ ^[1-9]$ ]] || die "up takes a number of nodes, 1 to 9"
    build
    DIR=$HAND
    if [[ -f $DIR/cluster ]]; then
        local bin=$BIN
        load_hand
        BIN=$bin
        for ((id = 1; id <= STARTED; id++)); do runs "$id" || start_node "$id"; done
    else
        mkdir -p "$DIR"
        choose_ports
        start_first "$count"
    fi
    save_hand
    for ((id = 1; id <= STARTED; id++)); do ids+=("$id"); done
    within 30 "all $STARTED nodes are ready" all_ready "${ids[@]}"
    status
    echo
    echo "  export RAFTMAP_ENDPOINTS=$(endpoints)"
    echo "  $BIN/raftmap put greeting hello"
    echo "  logs and data are in $DIR; down, then rm -r of it, and the next up begins anew"
}

down() {
    end_nodes TERM
    echo "all nodes are down; $0 up starts them again with their data"
}

status() {
    local id
    for ((id = 1; id <= STARTED; id++)); do
        printf 'node %s  %s  ' "$id" "$(address "$id")"
        if runs "$id"; then echo "pid $(pid_of "$id")  $(state_letter "$id")"; else echo "down"; fi
    done
    client --timeout 2s status || true
}

state_letter() {
    case $(sed 's/.*) //' "/proc/$(pid_of "$1")/stat") in
        T*) echo paused ;;
        *) echo running ;;
    esac
}

# A node beyond those that began joins through the first one that answers.
start_by_hand() {
    local id=$1 through
    if [[ -d $(node_dir "$id")/data ]]; then
        start_node "$id"
    else
        for ((through = 1; through <= STARTED; through++)); do is_ready "$through" && break; done
        ((through <= STARTED)) || die "no node is ready that node $id could join"
        start_node "$id" --join "$(address "$through")"
    fi
    save_hand
    within 60 "node $id is ready" is_ready "$id"
}

help() {
    cat <<TEXT
$0                 build, run the failover demonstration with its assertions, clean up
$0 up [N]          start a cluster of N nodes (3), or the one that is there, and leave it running
$0 down            stop it; its data stay
$0 status          its processes and what they say
$0 kill ID         kill -9
$0 start ID        start a node again; an ID that is new joins as a voter
$0 pause ID        stop the process as it is (SIGSTOP)
$0 resume ID       let it go on

RAFTMAP_TEST_PORT  the first of $PORTS free ports; 7701 and up otherwise
RAFTMAP_BIN_DIR    a directory with raftmap-node and raftmap to use instead of building them
Files are under $ROOT.
TEXT
}

# An id on the command line, of a cluster that `up` has started.
with_id() {
    if [[ ! ${2:-} =~ ^[1-9][0-9]?$ ]] || (($2 > PORTS)); then
        die "$1 takes the id of a node, 1 to $PORTS"
    fi
    load_hand
}

main() {
    local command=${1:-}
    case $command in
        kill | start | pause | resume) with_id "$@" ;;
        down | status) load_hand ;;
    esac
    case $command in
        '')
            build
            demonstrate
            ;;
        up) up "${2:-}" ;;
        down) down ;;
        status) status ;;
        kill) kill_node "$2" ;;
        start) start_by_hand "$2" ;;
        pause) signal STOP "$2" ;;
        resume) signal CONT "$2" ;;
        help | -h | --help) help ;;
        *)
            help >&2
            exit 2
            ;;
    esac
}

main "$@"
