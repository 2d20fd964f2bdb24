#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::canonical::Mode;
use crate::fixtures::RoomFixture;

fn facts(version: RoomVersion) -> CreateFacts {
    let room = RoomFixture::new(version, "alice create");
    CreateFacts::of(&room.events[0]).unwrap()
}

fn levels(version: RoomVersion, content: &str) -> Result<PowerLevels, MalformedLevels> {
    let content = Object::parse(content.as_bytes(), Mode::Lenient).unwrap();
    PowerLevels::new(&facts(version), Some(&content))
}

#[test]
fn creators() {
    for version in RoomVersion::all() {
        let room = RoomFixture::new(
            version,
            r#"alice create {"additional_creators":["@bob:b"],"m.federate":false,"type":"m.space"}"#,
        );
        let facts = CreateFacts::of(&room.events[0]).unwrap();
        assert!(facts.is_creator("@alice:example.org"));
        assert_eq!(facts.is_creator("@bob:b"), version.number() == 12);
        assert_eq!(
            (facts.federate, facts.room_type.as_deref()),
            (false, Some("m.space"))
        );
        assert_eq!(
            (facts.server.as_str(), facts.version),
            ("example.org", version)
        );
    }
}

#[test]
fn without_an_event() {
    for version in RoomVersion::all() {
        let power = PowerLevels::new(&facts(version), None).unwrap();
        let creator = power.user("@alice:example.org");
        let expected = if version.number() == 12 {
            Level::Infinite
        } else {
            Level::Finite(100)
        };
        assert_eq!(creator, expected);
        assert_eq!(power.user("@bob:b"), Level::Finite(0));
        assert_eq!(power.event("x", true), Level::Finite(50));
        assert_eq!(power.event("x", false), Level::Finite(0));
        for (action, level) in [
            (Action::Ban, 50),
            (Action::Kick, 50),
            (Action::Redact, 50),
            (Action::Invite, 0),
        ] {
            assert_eq!(power.action(action), Level::Finite(level));
        }
        assert_eq!(power.notification("room"), Level::Finite(50));
    }
}

#[test]
fn with_an_event() {
    let power = levels(
        RoomVersion::V12,
        r#"{"users":{"@bob:b":60},"users_default":5,"events":{"x":70},"events_default":1,
        "state_default":40,"ban":61,"kick":60,"redact":2,"invite":3,"notifications":{"room":20}}"#,
    )
    .unwrap();
    assert_eq!(power.user("@bob:b"), Level::Finite(60));
    assert_eq!(power.user("@carol:c"), Level::Finite(5));
    assert!(!power.may_send("@bob:b", "x", false));
    assert!(power.may_send("@bob:b", "y", true));
    assert!(power.may_send("@alice:example.org", "x", true));
    assert!(!power.may("@bob:b", Action::Ban) && power.may("@bob:b", Action::Kick));
    assert_eq!(power.notification("room"), Level::Finite(20));
    assert_eq!(power.users().count(), 2);
    assert!(Level::Infinite > Level::Finite(i64::MAX));
}

#[test]
fn what_each_version_reads_as_a_level() {
    let read = |version: u8, value: &str| {
        let version = RoomVersion::from_number(version).unwrap();
        levels(version, &format!(r#"{{"ban":{value}}}"#))
            .ok()
            .map(|p| p.action(Action::Ban))
    };
    let finite = |n| Some(Level::Finite(n));
    for version in 1..=12 {
        assert_eq!(read(version, "7"), finite(7));
        for bad in [
            "true", "null", "[]", "{}", r#""""#, r#""5.0""#, r#""+-5""#, r#""x""#,
        ] {
            assert_eq!(read(version, bad), None, "{bad}");
        }
        let stringy = version <= 9;
        for (text, n) in [(r#""50""#, 50), (r#"" +00100 ""#, 100), (r#""-7""#, -7)] {
            assert_eq!(read(version, text), stringy.then_some(Level::Finite(n)));
        }
    }
    assert_eq!(read(1, "5.114698E4"), finite(51146));
    assert_eq!(read(5, "50.57"), finite(50));
    assert_eq!(read(5, "-50.57"), finite(-50));
    assert_eq!(read(1, "123456789012345678901234567890"), finite(MAX_INT));
    let bad_user = levels(RoomVersion::V12, r#"{"users":{"bob":1}}"#);
    assert_eq!(bad_user, Err(MalformedLevels("users")));
}
