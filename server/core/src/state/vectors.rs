//! The cases that the proposals of state resolution are argued with: MSC1442 (version 2) and
//! MSC4297 (version 2.1, project Hydra).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use super::tests::Events;
use super::{ResolveSource, StateMap, resolve};
use crate::RoomVersion;
use crate::fixtures::RoomFixture;

const V2: RoomVersion = RoomVersion::V11;
const V2_1: RoomVersion = RoomVersion::V12;

/// The state made of events with these names, as some server claims it to be.
fn claimed(room: &RoomFixture, events: &Events, names: &str) -> StateMap {
    let entries = names.split(' ').map(|name| {
        let event = room.event(name);
        let key = event.state_key().unwrap();
        let key = events.state_key_nid(event.event_type(), key).unwrap();
        (
            key.unwrap(),
            events.event_nid(event.event_id()).unwrap().unwrap(),
        )
    });
    entries.collect()
}

/// The names of the events that the states make together, sorted.
fn outcome(version: RoomVersion, text: &str, states: [&str; 2]) -> String {
    let room = RoomFixture::new(version, text);
    let events = Events::of(&room);
    let states = states.map(|names| claimed(&room, &events, names));
    let state = resolve(version, &states, &events).unwrap();
    let mut names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().split_once(": ").map(|(name, _)| name))
        .filter(|name| {
            let event = room.event(name);
            let Some(key) = event.state_key() else {
                return false;
            };
            events.get(&state, event.event_type(), key) == Some(event.event_id())
        })
        .collect();
    names.sort_unstable();
    names.join(" ")
}

/// MSC4297, problem A: two servers claim old states before a leave. Version 2 begins with what
/// both agree on, in which nobody is left who may have set the join rules, and so loses them.
#[test]
fn cve_2025_49090_hydra_problem_a() {
    let text = r#"
        create: alice create
        alice0: alice join
        power: alice power {}
        rules0: alice rules public
        bob0: bob join
        charlie0: charlie join
        rules1: alice rules invite
        alice1: alice leave
        bob1: bob join {"displayname":"bob++"} after alice1
        charlie1: charlie join {"displayname":"charlie++"} after alice1"#;
    let states = [
        "create power charlie0 rules1 alice1 bob1",
        "create power rules0 bob0 alice1 charlie1",
    ];
    assert_eq!(
        outcome(V2, text, states),
        "alice1 bob1 charlie1 create power"
    );
    assert_eq!(
        outcome(V2_1, text, states),
        "alice1 bob1 charlie1 create power rules1"
    );
}

/// MSC4297, problem B: a server claims old power levels. Those between the old and the new ones
/// are in neither state; version 2 goes on from the old ones, since nothing says that bob might
/// set the new ones.
#[test]
fn cve_2025_49090_hydra_problem_b() {
    let text = r#"
        create: alice create
        alice: alice join
        power0: alice power {}
        rules: alice rules public
        bob: bob join
        charlie: charlie join
        power1: alice power {"users":{CREATOR"@bob:example.org":50}}
        power2: bob power {"users":{CREATOR"@bob:example.org":50,"@charlie:example.org":50}}
        zara: zara join
        eve0: eve join after power2
        eve: eve join {"displayname":"eve++"}"#;
    let states = [
        "create alice power0 rules bob charlie eve",
        "create alice power2 rules bob charlie zara",
    ];
    let v2 = text.replace("CREATOR", r#""@alice:example.org":100,"#);
    assert_eq!(
        outcome(V2, &v2, states),
        "alice bob charlie create eve power0 rules zara"
    );
    let v2_1 = text.replace("CREATOR", "");
    assert_eq!(
        outcome(V2_1, &v2_1, states),
        "alice bob charlie create eve power2 rules zara"
    );
}

/// MSC1442: who is banned cannot keep their power by what they do beside the ban, nor bring back
/// what was changed since; and of two who fight, the one with more power wins.
#[test]
fn of_a_fight_for_power_the_stronger_wins() {
    let text = r#"
        create: alice create
        alice: alice join
        power0: alice power {"users":{CREATOR"@bob:example.org":90,"@eve:example.org":50}}
        rules: alice rules public
        bob: bob join
        eve: eve join
        ban: bob ban eve
        power1: eve power {"users":{CREATOR"@bob:example.org":90,"@eve:example.org":50},"kick":40} after eve
        topic: eve state m.room.topic "" {"topic":"eve"}"#;
    for (version, creator) in [(V2, r#""@alice:example.org":100,"#), (V2_1, "")] {
        let text = text.replace("CREATOR", creator);
        let states = [
            "create alice power0 rules bob ban",
            "create alice power1 rules bob eve topic",
        ];
        let kept = outcome(version, &text, states);
        assert_eq!(kept, "alice ban bob create power0 rules", "{version}");
    }
}

/// A kick wins over the membership that it ends, although the two states differ in it.
#[test]
fn a_kick_beats_the_membership_it_ends() {
    let text = r#"
        create: alice create
        alice: alice join
        power: alice power {}
        rules: alice rules public
        bob: bob join
        topic: alice state m.room.topic "" {"topic":"t"}
        kick: alice kick bob after bob"#;
    for version in [V2, V2_1] {
        let states = [
            "create alice power rules bob topic",
            "create alice power rules kick",
        ];
        let kept = outcome(version, text, states);
        assert_eq!(kept, "alice create kick power rules topic", "{version}");
    }
}
