#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::fixtures::RoomFixture;

/// Checks the last lines of a text in every version: `!` before a line says it is refused.
fn in_every_version(text: &str) {
    for version in RoomVersion::all() {
        let _ = RoomFixture::new(version, text);
    }
}

const PUBLIC: &str = "
    alice create
    alice join
    alice power {}
    alice rules public
    bob join
";

fn rules(version: RoomVersion, text: &str) -> Vec<Rule> {
    let room = RoomFixture::new(version, &format!("{PUBLIC}{text}"));
    room.refused
        .iter()
        .map(|(_, refusal)| refusal.rule)
        .collect()
}

#[test]
fn who_may_come_in() {
    in_every_version(
        "alice create
        !bob join
        alice join
        !bob join
        alice invite bob
        bob join
        bob leave
        !bob join
        alice rules public
        bob join
        alice power {}
        alice ban bob
        !bob join
        !bob leave
        alice kick bob
        bob join
        !bob kick alice
        !bob ban alice
        !carol invite dora
        !carol message hi",
    );
}

#[test]
fn the_refusing_rule_is_named() {
    for version in RoomVersion::all() {
        let text = r#"
            !carol message hi
            !bob state m.room.topic "" {}
            !bob kick alice
            alice power {"state_default":0,"events":{"m.room.power_levels":0},"users_default":0}
            !bob state x @alice:example.org {}
            bob state x @bob:example.org {}
            !bob power {"users":{"@bob:example.org":50}}"#;
        let expected = [
            Rule::NotJoined,
            Rule::Power,
            Rule::Member,
            Rule::StateKey,
            Rule::PowerLevels,
        ];
        assert_eq!(rules(version, text), expected, "{version}");
    }
}

#[test]
fn redactions_of_others_are_for_the_rules_in_old_versions_only() {
    let text = "
        alice power {\"redact\":50}
        hi: alice message Hello
        carol:other.org join";
    for version in RoomVersion::all() {
        let mut room = RoomFixture::new(version, &format!("{PUBLIC}{text}"));
        let old = version.number() <= 2;
        let line = if old {
            "!carol:other.org redact hi"
        } else {
            "carol:other.org redact hi"
        };
        room.add(line);
        if old {
            assert_eq!(room.refused[0].1.rule, Rule::Redaction);
            // Of the same server as the event.
            room.add("bob redact hi");
        }
    }
}

#[test]
fn knocking_came_with_version_7() {
    for version in RoomVersion::all() {
        let mark = if version.has_knock() { "" } else { "!" };
        let text = format!("alice create\nalice join\nalice rules knock\n{mark}bob knock");
        let _ = RoomFixture::new(version, &text);
    }
}

#[test]
fn rooms_closed_to_other_servers() {
    for version in RoomVersion::all() {
        let text =
            "alice create {\"m.federate\":false}\nalice join\nalice rules public\n!bob:b join";
        let room = RoomFixture::new(version, text);
        assert_eq!(room.refused[0].1.rule, Rule::Federate);
    }
}

/// Versions 1 to 5 let power levels be floats and integers beyond 2^53.
#[test]
fn unusual_power_levels_of_old_rooms() {
    for version in RoomVersion::all().filter(|v| v.number() <= 5) {
        let text = r#"
            alice power {"users":{"@alice:example.org":100.7,"@bob:example.org":50.5},"events":{"x":1e2},"ban":-123456789012345678901234567890}
            bob state y "" {}
            !bob send x {}
            alice send x {}
            bob ban dora"#;
        let _ = RoomFixture::new(version, &format!("{PUBLIC}{text}"));
    }
}

#[test]
fn auth_events_are_checked() {
    for version in RoomVersion::all() {
        let room = RoomFixture::new(version, &format!("{PUBLIC}\nhi: alice message Hello"));
        let fetch = |id: &str| room.by_id(id).map(|event| (event, false));
        for event in &room.events {
            check_auth_events(event, fetch).unwrap();
        }
        let hi = room.event("hi");
        assert_eq!(
            check_auth_events(hi, |_| None).unwrap_err().rule,
            Rule::AuthEvents
        );
        let rejected = |id: &str| room.by_id(id).map(|event| (event, true));
        assert_eq!(
            check_auth_events(hi, rejected).unwrap_err().rule,
            Rule::AuthEvents
        );
    }
}

/// The selection is ruma's, leaving aside what content makes of it that is not of the right type.
#[test]
fn selection_agrees_with_ruma() {
    let contents = [
        r#"{"membership":"join"}"#,
        r#"{"membership":"join","join_authorised_via_users_server":"@c:c"}"#,
        r#"{"membership":"invite","third_party_invite":{"signed":{"token":"t"}}}"#,
        r#"{"membership":"knock"}"#,
        r#"{"membership":"leave"}"#,
    ];
    for version in RoomVersion::all() {
        for kind in [
            "m.room.member",
            "m.room.message",
            "m.room.create",
            "m.room.topic",
        ] {
            for content in contents {
                for key in ["@a:a", "@b:b"] {
                    let raw = serde_json::value::RawValue::from_string(content.to_owned()).unwrap();
                    let mut theirs: Vec<_> = ruma_state_res::auth_types_for_event(
                        &kind.into(),
                        <&ruma_common::UserId>::try_from("@a:a").unwrap(),
                        Some(key),
                        &raw,
                        &version.rules().authorization,
                    )
                    .unwrap()
                    .into_iter()
                    .map(|(kind, key)| (kind.to_string(), key))
                    .collect();
                    let object =
                        crate::canonical::Object::parse(content.as_bytes(), version.json_mode());
                    let mut ours: Vec<_> =
                        auth_types(version, kind, "@a:a", Some(key), &object.unwrap())
                            .into_iter()
                            .map(|(kind, key)| (kind.to_owned(), key))
                            .collect();
                    theirs.sort();
                    ours.sort();
                    assert_eq!(ours, theirs, "{version} {kind} {content}");
                }
            }
        }
    }
}

proptest! {
    /// The short way answers as the long one does.
    #[test]
    fn ordinary_is_no_other_than_full(
        version in 1_u8..=12,
        levels in prop::collection::vec(0_i64..4, 6),
        joined in any::<bool>(),
        federate in any::<bool>(),
        sender in prop_oneof![Just("bob"), Just("carol:c")],
        kind in prop_oneof![Just("x"), Just("m.room.message"), Just("m.room.name"), Just("m.room.redaction")],
        key in prop_oneof![Just(None), Just(Some("")), Just(Some("@bob:example.org")), Just(Some("@alice:example.org"))],
        with_levels in any::<bool>(),
    ) {
        let version = RoomVersion::from_number(version).unwrap();
        let mut text = format!("alice create {{\"m.federate\":{federate}}}\nalice join\nalice rules public\n");
        if joined && (federate || sender == "bob") {
            text += &format!("{sender} join\n");
        }
        if with_levels {
            let [a, b, c, d, e, f] = levels[..] else { panic!() };
            let alice = if version.number() == 12 { "" } else { r#""@alice:example.org":100,"# };
            text += &format!(
                r#"alice power {{"users":{{{alice}"@bob:example.org":{a},"@carol:c":{b}}},"users_default":{c},"events_default":{d},"state_default":{e},"events":{{"x":{f}}}}}"#
            );
        }
        let mut room = RoomFixture::new(version, &text);
        let state = room.state();
        let line = match key {
            None => format!("{sender} send {kind} {{}}"),
            Some(key) => format!("{sender} state {kind} \"{key}\" {{}}"),
        };
        let lookup = |kind: &str, key: &str| state.get(&(kind.to_owned(), key.to_owned())).cloned();
        let event = room.build(&line);
        let create = CreateFacts::of(&lookup("m.room.create", "").unwrap()).unwrap();
        let power = PowerLevels::of(&create, lookup("m.room.power_levels", "").as_deref()).unwrap();
        let sender = lookup("m.room.member", event.sender()).and_then(|m| m.membership());
        let full = check(&event, lookup);
        match check_ordinary(&event, AuthState { create: &create, power: &power, sender }) {
            None => prop_assert!(is_special(kind, version)),
            Some(short) => {
                prop_assert_eq!(short.as_ref().map_err(|r| r.rule), full.as_ref().map_err(|r| r.rule));
            }
        }
    }
}
