#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::convert::Infallible;

use proptest::prelude::*;
use ruma_common::OwnedEventId;
use ruma_events::StateEventType;
use ruma_state_res::Event as _;
use ruma_state_res::utils::event_id_set::EventIdSet;

use super::*;
use crate::event::RuledEvent;
use crate::fixtures::{RoomFixture, SeededDice};
use crate::{RoomVersion, StoredEvent};

fn map(entries: &[(u64, u64)]) -> StateMap {
    entries
        .iter()
        .map(|&(key, event)| (StateKeyNid(key), EventNid(event)))
        .collect()
}

#[test]
fn the_map() {
    let mut state = map(&[(3, 30), (1, 10), (2, 20), (1, 11)]);
    assert_eq!(state, map(&[(1, 11), (2, 20), (3, 30)]));
    let before = state.clone();
    state.insert(StateKeyNid(2), EventNid(21));
    state.insert(StateKeyNid(4), EventNid(40));
    assert!(state.remove(StateKeyNid(1)) && !state.remove(StateKeyNid(1)));
    assert_eq!(state, map(&[(2, 21), (3, 30), (4, 40)]));
    assert_eq!(before.get(StateKeyNid(2)), Some(EventNid(20)));
    assert_eq!(state.get(StateKeyNid(9)), None);
    assert_eq!((state.len(), state.is_empty()), (3, false));
    let delta = before.diff(&state);
    assert_eq!(
        (delta.set.len(), delta.removed.as_slice()),
        (2, [StateKeyNid(1)].as_slice())
    );
}

proptest! {
    #[test]
    fn a_map_is_a_map(ops in prop::collection::vec((0_u64..20, 0_u64..5), 0..60)) {
        let (mut ours, mut model) = (StateMap::new(), BTreeMap::new());
        for (key, event) in ops {
            let (key, event) = (StateKeyNid(key), EventNid(event));
            if event.0 == 0 {
                prop_assert_eq!(ours.remove(key), model.remove(&key).is_some());
            } else {
                ours.insert(key, event);
                model.insert(key, event);
            }
        }
        prop_assert!(ours.iter().eq(model.iter().map(|(&k, &v)| (k, v))));
        prop_assert_eq!(model.into_iter().collect::<StateMap>(), ours);
    }

    #[test]
    fn a_delta_leads_from_one_to_the_other(
        a in prop::collection::vec((0_u64..30, 1_u64..4), 0..30),
        b in prop::collection::vec((0_u64..30, 1_u64..4), 0..30),
    ) {
        let (a, b) = (map(&a), map(&b));
        let delta = a.diff(&b);
        prop_assert_eq!(a.apply(&delta), b.clone());
        prop_assert_eq!(delta.is_empty(), a == b);
        prop_assert_eq!(b.diff(&a).is_empty(), a == b);
    }
}

/// The events of a fixture, numbered from 1.
pub(super) struct Events {
    version: RoomVersion,
    events: Vec<RuledEvent>,
    keys: Vec<(String, String)>,
}

impl Events {
    pub(super) fn of(room: &RoomFixture) -> Self {
        let events = room
            .events
            .iter()
            .map(|event| RuledEvent::new(event.clone(), false))
            .collect();
        let keys: BTreeSet<_> = room
            .events
            .iter()
            .filter_map(|event| key_of(event))
            .collect();
        Events {
            version: room.version,
            events,
            keys: keys.into_iter().collect(),
        }
    }

    fn state_after(&self, room: &RoomFixture, event: &StoredEvent) -> StateMap {
        let entries = room.state_after_event(event).values().map(|event| {
            let (kind, key) = key_of(event).unwrap();
            let nid = self.event_nid(event.event_id()).unwrap().unwrap();
            (self.state_key_nid(&kind, &key).unwrap().unwrap(), nid)
        });
        entries.collect()
    }

    pub(super) fn get(&self, state: &StateMap, kind: &str, key: &str) -> Option<&str> {
        let event = state.get(self.state_key_nid(kind, key).unwrap()?)?;
        Some(self.events[event.0 as usize - 1].event().event_id())
    }
}

fn key_of(event: &StoredEvent) -> Option<(String, String)> {
    Some((event.event_type().to_owned(), event.state_key()?.to_owned()))
}

impl ResolveSource for Events {
    type Error = Infallible;

    fn event(&self, event: EventNid) -> Result<Option<RuledEvent>, Infallible> {
        Ok(self.events.get(event.0 as usize - 1).cloned())
    }

    fn event_nid(&self, event_id: &str) -> Result<Option<EventNid>, Infallible> {
        let at = self
            .events
            .iter()
            .position(|event| event.event().event_id() == event_id);
        Ok(at.map(|at| EventNid(at as u64 + 1)))
    }

    fn state_key(&self, key: StateKeyNid) -> Result<Option<(Arc<str>, Arc<str>)>, Infallible> {
        let name = self.keys.get(key.0 as usize - 1);
        Ok(name.map(|(kind, key)| (kind.as_str().into(), key.as_str().into())))
    }

    fn state_key_nid(&self, kind: &str, key: &str) -> Result<Option<StateKeyNid>, Infallible> {
        let at = self.keys.iter().position(|(k, s)| k == kind && s == key);
        Ok(at.map(|at| StateKeyNid(at as u64 + 1)))
    }
}

/// Resolves the states after the named events, in two orders.
fn resolved(room: &RoomFixture, ends: &[&str]) -> (Events, StateMap) {
    let events = Events::of(room);
    let mut states: Vec<_> = ends
        .iter()
        .map(|name| events.state_after(room, room.event(name)))
        .collect();
    let state = resolve(room.version, &states, &events).unwrap();
    states.reverse();
    assert_eq!(resolve(room.version, &states, &events).unwrap(), state);
    (events, state)
}

const START: &str = r#"
    alice create
    alice join
    alice power {"users_default":50}
    alice rules public
    start: bob join
"#;

/// Which event stands for a key after resolution, by its name in the text.
fn winner(version: RoomVersion, text: &str, ends: &[&str], kind: &str, key: &str) -> String {
    let text = format!("{START}{text}");
    // Creators of version 12 may not be named among the users.
    let text = if version.creators_are_privileged() {
        text.replace(r#""@alice:example.org":100,"#, "")
    } else {
        text.replace(
            r#"power {"users_default":50}"#,
            r#"power {"users":{"@alice:example.org":100},"users_default":50}"#,
        )
    };
    let room = RoomFixture::new(version, &text);
    let (events, state) = resolved(&room, ends);
    let id = events.get(&state, kind, key).unwrap().to_owned();
    let name = text
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .map(|(name, _)| name);
    let mut names = name.filter(|name| !name.contains(' '));
    names
        .find(|name| room.event(name).event_id() == id)
        .unwrap_or("another")
        .to_owned()
}

#[test]
fn nothing_to_resolve() {
    let room = RoomFixture::new(RoomVersion::V12, START);
    let (events, state) = resolved(&room, &["start"]);
    assert_eq!(state, events.state_after(&room, room.event("start")));
    let (_, same) = resolved(&room, &["start", "start", "start"]);
    assert_eq!(same, state);
    assert_eq!(
        resolve(RoomVersion::V12, &[], &events).unwrap(),
        StateMap::new()
    );
}

#[test]
fn of_two_topics_one_stays_and_other_keys_are_joined() {
    let text = r#"
        a: alice state m.room.topic "" {"topic":"a"} after start
        b1: bob state m.room.name "" {"name":"b"} after start
        b: bob state m.room.topic "" {"topic":"b"}"#;
    for version in RoomVersion::all() {
        // The deeper one in version 1, the later one in the others: both times the same.
        assert_eq!(
            winner(version, text, &["a", "b"], "m.room.topic", ""),
            "b",
            "{version}"
        );
        assert_eq!(winner(version, text, &["a", "b"], "m.room.name", ""), "b1");
    }
}

#[test]
fn a_ban_beats_what_the_banned_did_beside_it() {
    let text = r#"
        ban: alice ban bob after start
        topic: bob state m.room.topic "" {"topic":"b"} after start
        carol: bob invite carol"#;
    for version in RoomVersion::all() {
        let member = |who: &str| winner(version, text, &["ban", "carol"], "m.room.member", who);
        assert_eq!(member("@bob:example.org"), "ban", "{version}");
        if version != RoomVersion::V1 {
            let text = format!("t0: alice state m.room.topic \"\" {{}} after start\n{text}")
                .replace("after start\n        topic", "after t0\n        topic");
            let text = text.replace(
                "{\"topic\":\"b\"} after start",
                "{\"topic\":\"b\"} after t0",
            );
            let topic = winner(version, &text, &["ban", "carol"], "m.room.topic", "");
            assert_eq!(topic, "t0", "{version}");
        }
    }
}

/// Version 1, pass by pass: power levels by depth as long as each allows the next.
#[test]
fn version_1_power_levels() {
    let text = r#"
        p1: alice power {"users":{"@alice:example.org":100,"@bob:example.org":50},"users_default":0,"state_default":50} after start
        m: bob message hi after start
        p2: alice power {"users":{"@alice:example.org":100},"users_default":50,"state_default":60}
        j: bob state m.room.topic "" {} after p1"#;
    // p2 is deeper, and alice may set it in a state with p1.
    assert_eq!(
        winner(
            RoomVersion::V1,
            text,
            &["j", "p2"],
            "m.room.power_levels",
            ""
        ),
        "p2"
    );
    // But bob may not have set a deeper one, where p1 leaves him at 50 and he gives himself 70.
    let text = r#"
        p1: alice power {"users":{"@alice:example.org":100},"users_default":0,"events":{"m.room.power_levels":100}} after start
        m: bob message hi after start
        p2: bob power {"users":{"@alice:example.org":100,"@bob:example.org":50},"users_default":50}"#;
    assert_eq!(
        winner(
            RoomVersion::V1,
            text,
            &["p1", "p2"],
            "m.room.power_levels",
            ""
        ),
        "p1"
    );
}

/// Version 1: what is neither power, rules nor membership is won by the deepest that is allowed.
#[test]
fn version_1_other_events() {
    let text = r#"
        m0: alice message hi after start
        p: alice power {"users":{"@alice:example.org":100},"users_default":0}
        a: alice state m.room.topic "" {"topic":"a"}
        m: bob message hi after start
        m2: bob message hi
        m3: bob message hi
        b: bob state m.room.topic "" {"topic":"b"}"#;
    // Deeper, but in the resolved state bob has lost his power.
    assert_eq!(
        winner(RoomVersion::V1, text, &["a", "b"], "m.room.topic", ""),
        "a"
    );
    // Where none is allowed, the one of least depth stays.
    let text = r#"
        m0: alice message hi after start
        p: alice power {"users":{"@alice:example.org":100},"users_default":0}
        a: bob state m.room.topic "" {"topic":"a"} after start
        m1: bob message hi after start
        b: bob state m.room.topic "" {"topic":"b"}"#;
    assert_eq!(
        winner(RoomVersion::V1, text, &["p", "a", "b"], "m.room.topic", ""),
        "a"
    );
}

/// Version 1: of equally deep ones, the least SHA-1 of the event id wins.
#[test]
fn version_1_ties() {
    let text = r#"
        a: alice state m.room.topic "" {"topic":"a"} after start
        b: alice state m.room.topic "" {"topic":"b"} after start
        c: alice state m.room.topic "" {"topic":"c"} after start"#;
    let room = RoomFixture::new(RoomVersion::V1, &format!("{START}{text}"));
    let (events, state) = resolved(&room, &["a", "b", "c"]);
    let ids = ["a", "b", "c"].map(|name| room.event(name).event_id());
    let least = ids
        .into_iter()
        .min_by_key(|id| super::sha1::sha1(id.as_bytes()))
        .unwrap();
    assert_eq!(events.get(&state, "m.room.topic", ""), Some(least));
}

/// A room in which many things happen on several branches at once, by a seed.
fn random_room(version: RoomVersion, seed: u64) -> (RoomFixture, Vec<String>) {
    let mut dice = SeededDice::new(seed);
    let users = ["alice", "bob", "carol", "dora"];
    let mut room = RoomFixture::new(version, "e0: alice create");
    let levels = |all: u64| {
        let alice = if version.creators_are_privileged() {
            ""
        } else {
            r#""@alice:example.org":100,"#
        };
        format!(r#"power {{"users":{{{alice}"@bob:example.org":75}},"users_default":{all}}}"#)
    };
    for (i, line) in [
        "alice join",
        &format!("alice {}", levels(60)),
        "alice rules public",
        "bob join",
        "carol join",
    ]
    .iter()
    .enumerate()
    {
        room.add(&format!("e{}: {line}", i + 1));
    }
    let mut names: Vec<_> = (0..6).map(|i| format!("e{i}")).collect();
    let mut ends = vec!["e5".to_owned()];
    for i in 6..6 + dice.below(20) {
        let who = users[dice.below(4) as usize];
        let whom = users[dice.below(4) as usize];
        let line = match dice.below(9) {
            0 => format!("{who} join"),
            1 => format!("{who} leave"),
            2 => format!("{who} kick {whom}"),
            3 => format!("{who} ban {whom}"),
            4 => format!("{who} invite {whom}"),
            5 => format!("{who} {}", levels([0, 40, 60][dice.below(3) as usize])),
            6 => format!(
                "{who} rules {}",
                ["public", "invite"][dice.below(2) as usize]
            ),
            _ => format!("{who} state m.room.topic \"\" {{\"topic\":\"{i}\"}}"),
        };
        let at = names.len() - 1 - dice.below(names.len().min(5) as u64) as usize;
        let after = names[at].clone();
        if room.try_add(&format!("e{i}: {line} after {after}")).is_ok() {
            let name = format!("e{i}");
            ends.retain(|end| *end != after);
            ends.push(name.clone());
            names.push(name);
        }
    }
    (room, ends)
}

/// Resolution by ruma alone: whole states, whole auth chains.
fn by_ruma(events: &Events, states: &[StateMap]) -> StateMap {
    let by_id: HashMap<&str, &RuledEvent> = events
        .events
        .iter()
        .map(|event| (event.event().event_id(), event))
        .collect();
    let above = |start: Vec<String>| {
        let (mut seen, mut todo) = (HashSet::new(), start);
        while let Some(id) = todo.pop() {
            for auth in by_id[id.as_str()].event().auth_events() {
                if seen.insert(auth.clone()) {
                    todo.push(auth);
                }
            }
        }
        seen
    };
    let mut maps = Vec::new();
    let mut chains = Vec::new();
    for state in states {
        let all: Vec<_> = state
            .iter()
            .map(|(_, nid)| &events.events[nid.0 as usize - 1])
            .collect();
        let chain = above(
            all.iter()
                .map(|event| event.event().event_id().to_owned())
                .collect(),
        );
        let ids = chain.iter().map(|id| by_id[id.as_str()].event_id().clone());
        chains.push(ids.collect::<EventIdSet<OwnedEventId>>());
        let entries = all.iter().map(|event| {
            let (kind, key) = key_of(event.event()).unwrap();
            (
                (StateEventType::from(kind.as_str()), key),
                event.event_id().clone(),
            )
        });
        maps.push(entries.collect::<ruma_state_res::StateMap<_>>());
    }
    let rules = events.version.rules();
    let resolved = ruma_state_res::resolve(
        &rules.authorization,
        rules.state_res.v2_rules().unwrap(),
        &maps,
        chains,
        |id| by_id.get(id.as_str()).map(|event| (*event).clone()),
        |conflicted| {
            let ends: Vec<String> = conflicted
                .values()
                .flatten()
                .map(ToString::to_string)
                .collect();
            let mut on_paths: HashSet<String> = ends.iter().cloned().collect();
            for event in &events.events {
                let id = event.event().event_id().to_owned();
                let above_it = above(vec![id.clone()]);
                let leads_up = ends.iter().any(|end| above_it.contains(end));
                let is_above = ends
                    .iter()
                    .any(|end| above(vec![end.clone()]).contains(&id));
                if leads_up && is_above {
                    on_paths.insert(id);
                }
            }
            Some(
                on_paths
                    .iter()
                    .map(|id| by_id[id.as_str()].event_id().clone())
                    .collect(),
            )
        },
    )
    .unwrap();
    let entries = resolved.into_iter().map(|((kind, key), id)| {
        let key = events
            .state_key_nid(&kind.to_string(), &key)
            .unwrap()
            .unwrap();
        (key, events.event_nid(id.as_str()).unwrap().unwrap())
    });
    entries.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// What is left out of what ruma is given does not matter, nor the order of the states.
    #[test]
    fn the_reduction_changes_nothing(seed in any::<u64>(), version in 1_u8..=12) {
        let version = RoomVersion::from_number(version).unwrap();
        let (room, ends) = random_room(version, seed);
        let events = Events::of(&room);
        let mut states: Vec<_> =
            ends.iter().map(|end| events.state_after(&room, room.event(end))).collect();
        let state = resolve(version, &states, &events).unwrap();
        if version != RoomVersion::V1 {
            prop_assert_eq!(&by_ruma(&events, &states), &state);
        }
        let mut dice = SeededDice::new(seed);
        for _ in 0..3 {
            let i = dice.below(states.len() as u64) as usize;
            states.rotate_left(i);
            states.swap(0, i);
            prop_assert_eq!(&resolve(version, &states, &events).unwrap(), &state);
        }
    }
}
