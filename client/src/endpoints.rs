//! Where to send the next request.
//!
//! ```text
//!   given by the user      learnt from the cluster
//!   ┌──────────────┐       ┌──────────────┐
//!   │ addr, node?  │  ...  │ addr, node   │      leader: Option<node>
//!   └──────────────┘       └──────────────┘
//!        rests for a moment after a failure
//! ```
//!
//! A reply says who sent it (`KV-Node`) and whom it takes for the leader (`KV-Leader`), so the table learns which
//! address belongs to which node; `/v1/status` adds the addresses nobody gave. A write goes to the leader
//! when its address is known, because any other node would only forward it.
//!
//! Always true:
//! - the table is never empty, and what the user gave is never dropped;
//! - a resting endpoint is picked only when all are resting;
//! - time comes in as an argument: the table has no clock of its own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long an endpoint that failed is left alone while others are available.
pub(crate) const REST: Duration = Duration::from_secs(1);

/// How many endpoints the table holds at most; what the user gave always fits, learnt ones beyond it are not kept.
pub(crate) const ENDPOINTS_MAX: usize = 64;

/// Which endpoint suits a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefer {
    /// The leader when known: writes, linearizable reads, changes of the cluster.
    Leader,
    /// Any, in turn: reads that every node answers by itself.
    Any,
}

/// The endpoints of one client, shared by its clones.
#[derive(Debug)]
pub(crate) struct Endpoints {
    table: Mutex<Table>,
    /// Whether only the given addresses are ever used.
    pinned: bool,
}

impl Endpoints {
    /// A table of the given `host:port` addresses; `None` when there are none.
    pub(crate) fn new(addrs: Vec<String>) -> Option<Endpoints> {
        let mut table = Table { entries: Vec::new(), leader: None, next: 0 };
        for addr in addrs {
            table.add(addr, None, true);
        }
        (!table.entries.is_empty()).then(|| Endpoints { table: Mutex::new(table), pinned: false })
    }

    /// The same, but nothing is learnt: calls go to the given addresses alone, whoever leads.
    pub(crate) fn pinned(self) -> Endpoints {
        Endpoints { pinned: true, ..self }
    }

    /// The endpoint for the next attempt; `avoid` is the one that just failed.
    pub(crate) fn pick(&self, prefer: Prefer, avoid: Option<&str>, now: Instant) -> Arc<str> {
        self.lock().pick(prefer, avoid, now)
    }

    /// A reply came from `addr`: it works, and this is what it said about itself and the leader.
    pub(crate) fn answered(&self, addr: &str, node: Option<u64>, leader: Option<u64>) {
        let mut table = self.lock();
        if let Some(entry) = table.entries.iter_mut().find(|e| &*e.addr == addr) {
            entry.resting_until = None;
            entry.node = node.or(entry.node);
        }
        if leader.is_some() {
            table.leader = leader;
        }
    }

    /// No usable reply came from `addr`; if it was the leader, who leads now is open.
    pub(crate) fn failed(&self, addr: &str, now: Instant) {
        let mut table = self.lock();
        let leader = table.leader;
        if let Some(entry) = table.entries.iter_mut().find(|e| &*e.addr == addr) {
            entry.resting_until = Some(now + REST);
            if entry.node.is_some() && entry.node == leader {
                table.leader = None;
            }
        }
    }

    /// The members as the cluster lists them.
    pub(crate) fn learn(&self, members: BTreeMap<u64, String>, leader: Option<u64>) {
        if self.pinned {
            return;
        }
        let mut table = self.lock();
        table.forget_left(&members);
        for (id, addr) in members {
            table.add(addr, Some(id), false);
        }
        if leader.is_some() {
            table.leader = leader;
        }
    }

    /// Whether a leader is known by its id but not by an address: time to ask for the members.
    pub(crate) fn leader_needs_address(&self) -> bool {
        if self.pinned {
            return false;
        }
        let table = self.lock();
        table.leader.is_some_and(|id| !table.entries.iter().any(|e| e.node == Some(id)))
    }

    /// All addresses, the given ones first.
    pub(crate) fn all(&self) -> Vec<Arc<str>> {
        self.lock().entries.iter().map(|e| Arc::clone(&e.addr)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // The table is whole between any two statements that could panic, so a poisoned lock is still good.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Table {
    entries: Vec<Entry>,
    leader: Option<u64>,
    /// Where the next turn starts.
    next: usize,
}

#[derive(Debug)]
struct Entry {
    addr: Arc<str>,
    node: Option<u64>,
    resting_until: Option<Instant>,
    given: bool,
}

impl Entry {
    fn rests(&self, now: Instant) -> bool {
        self.resting_until.is_some_and(|until| now < until)
    }
}

impl Table {
    fn pick(&mut self, prefer: Prefer, avoid: Option<&str>, now: Instant) -> Arc<str> {
        if prefer == Prefer::Leader
            && let Some(leader) = self.usable_leader(avoid, now)
        {
            return leader;
        }
        let count = self.entries.len();
        let turn = (0..count).map(|step| (self.next + step) % count);
        // The best candidate in turn order: rested and not the one that just failed, then rested, then any.
        let chosen = turn
            .min_by_key(|&i| {
                let entry = &self.entries[i];
                (entry.rests(now), avoid == Some(&*entry.addr))
            })
            .unwrap_or(0);
        self.next = chosen + 1;
        Arc::clone(&self.entries[chosen].addr)
    }

    fn usable_leader(&self, avoid: Option<&str>, now: Instant) -> Option<Arc<str>> {
        let leader = self.leader?;
        let entry = self.entries.iter().find(|e| e.node == Some(leader))?;
        (!entry.rests(now) && avoid != Some(&*entry.addr)).then(|| Arc::clone(&entry.addr))
    }

    fn add(&mut self, addr: String, node: Option<u64>, given: bool) {
        if let Some(entry) = self.entries.iter_mut().find(|e| *e.addr == *addr) {
            entry.node = node.or(entry.node);
            return;
        }
        // A node reached under the user's own address keeps it: that one is known to work from here.
        let reached = node.is_some() && self.entries.iter().any(|e| e.given && e.node == node);
        if reached || (!given && self.entries.len() >= ENDPOINTS_MAX) {
            return;
        }
        self.entries.push(Entry { addr: addr.into(), node, resting_until: None, given });
    }

    /// Learnt addresses of nodes that are members no more go.
    fn forget_left(&mut self, members: &BTreeMap<u64, String>) {
        self.entries.retain(|e| e.given || members.values().any(|addr| **addr == *e.addr));
        self.next = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Endpoints {
        Endpoints::new(vec!["a:1".into(), "b:1".into(), "c:1".into()]).unwrap()
    }

    fn picks(endpoints: &Endpoints, prefer: Prefer, n: usize, now: Instant) -> Vec<String> {
        (0..n).map(|_| endpoints.pick(prefer, None, now).to_string()).collect()
    }

    #[test]
    fn a_pinned_table_learns_nothing() {
        let endpoints = Endpoints::new(vec!["a:1".into()]).unwrap().pinned();
        endpoints.answered("a:1", Some(1), Some(2));
        endpoints.learn([(1, "a:1".into()), (2, "b:1".into())].into(), Some(2));
        assert!(!endpoints.leader_needs_address());
        assert_eq!(picks(&endpoints, Prefer::Leader, 2, Instant::now()), ["a:1", "a:1"]);
    }

    #[test]
    fn a_table_without_addresses_is_none() {
        assert!(Endpoints::new(Vec::new()).is_none());
    }

    #[test]
    fn without_a_leader_requests_go_round() {
        let endpoints = three();
        assert_eq!(
            picks(&endpoints, Prefer::Leader, 4, Instant::now()),
            ["a:1", "b:1", "c:1", "a:1"]
        );
    }

    #[test]
    fn a_known_leader_gets_the_writes_and_the_rest_still_goes_round() {
        let endpoints = three();
        endpoints.answered("b:1", Some(2), Some(2));
        let now = Instant::now();
        assert_eq!(picks(&endpoints, Prefer::Leader, 2, now), ["b:1", "b:1"]);
        assert_eq!(picks(&endpoints, Prefer::Any, 3, now), ["a:1", "b:1", "c:1"]);
    }

    #[test]
    fn a_failed_endpoint_rests_and_comes_back() {
        let endpoints = three();
        let now = Instant::now();
        endpoints.failed("b:1", now);
        assert_eq!(picks(&endpoints, Prefer::Any, 3, now), ["a:1", "c:1", "a:1"]);
        let later = now + REST;
        assert_eq!(picks(&endpoints, Prefer::Any, 3, later), ["b:1", "c:1", "a:1"]);
    }

    #[test]
    fn when_all_rest_the_one_that_just_failed_is_still_avoided() {
        let endpoints = three();
        let now = Instant::now();
        for addr in ["a:1", "b:1", "c:1"] {
            endpoints.failed(addr, now);
        }
        assert_eq!(&*endpoints.pick(Prefer::Any, Some("a:1"), now), "b:1");
    }

    #[test]
    fn a_leader_that_fails_is_forgotten() {
        let endpoints = three();
        let now = Instant::now();
        endpoints.answered("b:1", Some(2), Some(2));
        endpoints.failed("b:1", now);
        assert_eq!(picks(&endpoints, Prefer::Leader, 2, now + REST), ["a:1", "b:1"]);
    }

    #[test]
    fn the_members_give_the_leader_its_address() {
        let endpoints = Endpoints::new(vec!["a:1".into()]).unwrap();
        endpoints.answered("a:1", Some(1), Some(3));
        assert!(endpoints.leader_needs_address());
        let members = [(1, "a:1".into()), (3, "c:1".into())].into();
        endpoints.learn(members, Some(3));
        assert!(!endpoints.leader_needs_address());
        assert_eq!(&*endpoints.pick(Prefer::Leader, None, Instant::now()), "c:1");
    }

    #[test]
    fn a_member_that_left_is_dropped_but_never_what_was_given() {
        let endpoints = Endpoints::new(vec!["a:1".into()]).unwrap();
        endpoints.learn([(2, "b:1".into()), (3, "c:1".into())].into(), None);
        endpoints.learn([(3, "c:1".into())].into(), None);
        let all: Vec<_> = endpoints.all().iter().map(ToString::to_string).collect();
        assert_eq!(all, ["a:1", "c:1"]);
    }

    #[test]
    fn a_node_reached_by_a_given_address_is_not_listed_twice() {
        let endpoints = Endpoints::new(vec!["localhost:1".into()]).unwrap();
        endpoints.answered("localhost:1", Some(1), Some(1));
        endpoints.learn([(1, "10.0.0.1:1".into())].into(), Some(1));
        assert_eq!(endpoints.all().len(), 1);
    }
}
