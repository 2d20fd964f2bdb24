//! Random histories, against a model that knows nothing of tables: what must be kept, what goes.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Op {
    /// Upload: which bytes, by whom.
    Put(u8, u64),
    /// A copy of another server's.
    Remote(u8),
    Name(usize),
    Unname(usize),
    Protect(usize),
    Look(usize),
    Pass(u64),
    Prune {
        remote: bool,
        local: bool,
        days: u64,
        larger_than: u64,
        empty: bool,
    },
    Restore(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (0_u8..6, 1_u64..4).prop_map(|(bytes, who)| Op::Put(bytes, who)),
        2 => (0_u8..6).prop_map(Op::Remote),
        3 => (0_usize..20).prop_map(Op::Name),
        1 => (0_usize..20).prop_map(Op::Unname),
        1 => (0_usize..20).prop_map(Op::Protect),
        2 => (0_usize..20).prop_map(Op::Look),
        3 => (1_u64..5).prop_map(Op::Pass),
        3 => (any::<bool>(), any::<bool>(), 0_u64..6, 0_u64..5, any::<bool>()).prop_map(
            |(remote, local, days, larger_than, empty)| {
                Op::Prune { remote: remote || !local, local, days, larger_than, empty }
            }
        ),
        1 => (0_usize..20).prop_map(Op::Restore),
    ];
    prop::collection::vec(op, 1..30)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Live,
    Trash,
    Gone,
}

#[derive(Debug, Clone)]
struct Entry {
    id: String,
    remote: bool,
    size: u64,
    used_ms: u64,
    trashed_ms: u64,
    named: bool,
    protected: bool,
    state: State,
}

struct Model {
    world: World,
    entries: Vec<Entry>,
    now_ms: u64,
}

impl Model {
    async fn apply(&mut self, op: Op) {
        let w = &self.world;
        let at = |n: usize| (!self.entries.is_empty()).then(|| n % self.entries.len());
        match op {
            Op::Put(bytes, who) => {
                let bytes = vec![bytes; usize::from(bytes) + 1];
                let id = w.put(&bytes, who).await;
                self.add(id, false, bytes.len());
            }
            Op::Remote(bytes) => {
                let bytes = vec![bytes; usize::from(bytes) + 1];
                let id = w.put_remote(&bytes, "a.example").await;
                self.add(id, true, bytes.len());
            }
            Op::Name(n) => {
                if let Some(n) = at(n) {
                    let entry = &mut self.entries[n];
                    entry.named = true;
                    let server = server(entry);
                    w.named.add_of(&w.blobs().store, server, &entry.id);
                    let store = &w.blobs().store;
                    store.durable(&store.barrier()).await.unwrap();
                    w.pruner.revive(None).await.unwrap();
                    if entry.state == State::Trash {
                        entry.state = State::Live;
                    }
                }
            }
            Op::Unname(n) => {
                if let Some(n) = at(n) {
                    let entry = &mut self.entries[n];
                    entry.named = false;
                    let key = (server(entry).to_owned(), entry.id.clone());
                    w.named.names.lock().unwrap().remove(&key);
                }
            }
            Op::Protect(n) => {
                if let Some(n) = at(n).filter(|n| !self.entries[*n].remote) {
                    let id = MediaId::parse(&self.entries[n].id).unwrap();
                    w.blobs().protect(id, true).await.unwrap();
                    self.entries[n].protected = true;
                }
            }
            Op::Look(n) => {
                if let Some(n) = at(n) {
                    let entry = &mut self.entries[n];
                    if entry.state == State::Live {
                        assert!(is_here(w.blobs(), server(entry), &entry.id));
                        entry.used_ms = self.now_ms;
                    }
                }
            }
            Op::Pass(days) => {
                w.pass(days * DAY);
                self.now_ms += days * DAY;
            }
            Op::Restore(n) => {
                if let Some(n) = at(n) {
                    let entry = &mut self.entries[n];
                    let mxc = format!("mxc://{}/{}", server(entry), entry.id);
                    w.pruner.restore(Some(vec![mxc])).await.unwrap();
                    if entry.state == State::Trash {
                        entry.state = State::Live;
                    }
                }
            }
            Op::Prune {
                remote,
                local,
                days,
                larger_than,
                empty,
            } => {
                let order = Order {
                    remote,
                    local,
                    older_than_ms: days * DAY,
                    larger_than,
                    trash: if empty { Emptying::Due } else { Emptying::No },
                    ..Order::default()
                };
                for entry in &mut self.entries {
                    prune(entry, &order, self.now_ms);
                }
                w.prune(order).await;
            }
        }
    }

    fn add(&mut self, id: String, remote: bool, size: usize) {
        self.entries.push(Entry {
            id,
            remote,
            size: size as u64,
            used_ms: self.now_ms,
            trashed_ms: 0,
            named: false,
            protected: false,
            state: State::Live,
        });
    }

    fn check(&self) {
        self.world.check();
        let trash = self.world.in_trash();
        for entry in &self.entries {
            let here = {
                let key = (server(entry).to_owned(), entry.id.clone());
                let snap = self.world.blobs().store.newest();
                snap.has::<MediaTable>(&key).unwrap()
            };
            let state = match (here, trash.contains(&entry.id)) {
                (true, false) => State::Live,
                (false, true) => State::Trash,
                (false, false) => State::Gone,
                (true, true) => panic!("{entry:?} is in two places"),
            };
            assert_eq!(state, entry.state, "{entry:?} at {}", self.now_ms);
        }
    }
}

fn server(entry: &Entry) -> &'static str {
    if entry.remote {
        "a.example"
    } else {
        "localhost"
    }
}

/// What a prune does to one, by the words of the manual.
fn prune(entry: &mut Entry, order: &Order, now_ms: u64) {
    let kept = entry.named || entry.protected;
    match entry.state {
        State::Gone => {}
        State::Live => {
            let selected = if entry.remote {
                order.remote
            } else {
                order.local
            };
            let old = entry.used_ms + order.older_than_ms <= now_ms;
            let large = order.larger_than == 0 || entry.size > order.larger_than;
            if selected && old && large && !kept {
                entry.state = if entry.remote {
                    State::Gone
                } else {
                    State::Trash
                };
                entry.trashed_ms = now_ms;
            }
        }
        State::Trash if kept => entry.state = State::Live,
        State::Trash => {
            if order.trash == Emptying::Due && entry.trashed_ms + 7 * DAY <= now_ms {
                entry.state = State::Gone;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_must_stay_stays_and_what_is_asked_for_goes(ops in ops()) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .unwrap();
        runtime.block_on(async {
            let world = world();
            let now_ms = skerry_core::Clock::now_ms(&*world.home.clock);
            let mut model = Model { world, entries: Vec::new(), now_ms };
            for op in ops {
                model.apply(op).await;
                model.check();
            }
        });
    }
}
