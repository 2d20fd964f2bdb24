#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ruma_common::UserId;
use ruma_common::push::{
    ConditionalPushRule, FlattenedJson, NewConditionalPushRule, NewPatternedPushRule, NewPushRule,
    NewSimplePushRule, PushConditionPowerLevelsCtx, PushConditionRoomCtx, RuleKind,
};
use ruma_common::serde::Raw;

use super::*;
use crate::RoomVersion;
use crate::fixtures::RoomFixture;
use crate::power::CreateFacts;

const BOB: &str = "@bob:example.org";

fn room(members: &str) -> RoomFixture {
    let mut room = RoomFixture::public();
    for name in members.split_whitespace() {
        room.add(&format!("{name} join"));
    }
    room
}

fn power(room: &RoomFixture) -> Arc<PowerLevels> {
    let create = CreateFacts::of(&room.events[0]).unwrap();
    PowerLevels::of(&create, room.current("m.room.power_levels", "").as_deref())
        .unwrap()
        .into()
}

fn defaults() -> Ruleset {
    Ruleset::server_default(<&UserId>::try_from(BOB).unwrap())
}

/// (notify, highlight) for bob.
fn check(rules: &Ruleset, line: &str, count: u64) -> (bool, bool) {
    let mut room = room("bob carol");
    let event = room.add(line);
    let power = power(&room);
    let facts = EventFacts::new(&event, count, power);
    let verdict = evaluate(rules, &facts, Some("Bobby"), BOB, None);
    (verdict.notify, verdict.highlight)
}

#[test]
fn the_default_rules() {
    let rules = defaults();
    let mention = r#"alice send m.room.message {"body":"x","msgtype":"m.text","m.mentions":{"user_ids":["@bob:example.org"]}}"#;
    let edit = r#"alice send m.room.message {"body":"* x","msgtype":"m.text","m.relates_to":{"rel_type":"m.replace","event_id":"$x"}}"#;
    let shout = |name: &str| {
        format!(
            r#"{name} send m.room.message {{"body":"x","msgtype":"m.text","m.mentions":{{"room":true}}}}"#
        )
    };
    for (line, expected) in [
        ("alice message Hello", (true, false)),
        ("bob message Hello", (false, false)),
        (
            r#"alice send m.room.message {"body":"x","msgtype":"m.notice"}"#,
            (false, false),
        ),
        (r#"alice send m.room.encrypted {"x":1}"#, (true, false)),
        (
            r#"alice send m.reaction {"m.relates_to":{}}"#,
            (false, false),
        ),
        (mention, (true, true)),
        (edit, (false, false)),
        (shout("alice").as_str(), (true, true)),
        (shout("carol").as_str(), (true, false)),
        (
            r#"alice state m.room.tombstone "" {"body":"x","replacement_room":"!x"}"#,
            (true, true),
        ),
        (r#"alice state m.room.name "" {"name":"x"}"#, (false, false)),
        ("alice invite dora", (false, false)),
        ("alice kick bob", (false, false)),
    ] {
        assert_eq!(check(&rules, line, 3), expected, "{line}");
    }
    let mut room = RoomFixture::public();
    let invite = room.add("alice invite bob");
    let power = power(&room);
    let facts = EventFacts::new(&invite, 1, power);
    assert!(evaluate(&rules, &facts, None, BOB, None).notify);
}

#[test]
fn polls_notify_as_messages_do_and_votes_do_not() {
    let rules = defaults();
    for (kind, count, notify) in [
        ("org.matrix.msc3381.poll.start", 2, true),
        ("org.matrix.msc3381.poll.start", 3, true),
        ("org.matrix.msc3381.poll.end", 2, true),
        ("org.matrix.msc3381.poll.end", 3, true),
        ("org.matrix.msc3381.poll.response", 2, false),
        ("org.matrix.msc3381.poll.response", 3, false),
    ] {
        let line = format!(r#"alice send {kind} {{"x":1}}"#);
        assert_eq!(
            check(&rules, &line, count),
            (notify, false),
            "{kind} {count}"
        );
    }
}

#[test]
fn creators_may_mention_the_room_whatever_its_levels_say() {
    let rules = defaults();
    let mut room = room("bob carol");
    room.add(
        r#"alice state m.room.power_levels "" {"users":{"@carol:example.org":100},"notifications":{"room":1000}}"#,
    );
    for (name, highlight) in [("alice", true), ("carol", false)] {
        let shout = format!(
            r#"{name} send m.room.message {{"body":"x","msgtype":"m.text","m.mentions":{{"room":true}}}}"#
        );
        let event = room.add(&shout);
        let facts = EventFacts::new(&event, 3, power(&room));
        let verdict = evaluate(&rules, &facts, None, BOB, None);
        assert_eq!(verdict.highlight, highlight, "{name}");
    }
}

#[test]
fn users_own_rules() {
    let mut rules = defaults();
    let silence = NewPatternedPushRule::new("quiet".into(), "lun?h*".into(), vec![]);
    rules
        .insert(NewPushRule::Content(silence), None, None)
        .unwrap();
    assert_eq!(
        check(&rules, "alice message What about LUNCH today", 3),
        (false, false)
    );
    assert_eq!(
        check(&rules, "alice message What about dinner", 3),
        (true, false)
    );
    rules
        .set_enabled(RuleKind::Content, "quiet", false)
        .unwrap();
    assert_eq!(check(&rules, "alice message lunch", 3), (true, false));

    let carol: ruma_common::OwnedUserId = "@carol:example.org".try_into().unwrap();
    rules
        .insert(
            NewPushRule::Sender(NewSimplePushRule::new(carol, vec![])),
            None,
            None,
        )
        .unwrap();
    assert_eq!(check(&rules, "carol message Hi", 3), (false, false));
    assert_eq!(check(&rules, "alice message Hi", 3), (true, false));

    rules
        .set_enabled(RuleKind::Override, ".m.rule.master", true)
        .unwrap();
    assert_eq!(check(&rules, "alice message Hi", 3), (false, false));
}

#[test]
fn conditions() {
    let holds = |condition: &str, line: &str, count: u64| {
        let condition: PushCondition = serde_json::from_str(condition).unwrap();
        let mut rules = Ruleset::new();
        let rule = NewConditionalPushRule::new("x".into(), vec![condition], vec![Action::Notify]);
        rules
            .insert(NewPushRule::Underride(rule), None, None)
            .unwrap();
        check(&rules, line, count).0
    };
    let says = "alice message Well, bobby, hello";
    assert!(holds(r#"{"kind":"contains_display_name"}"#, says, 3));
    assert!(!holds(
        r#"{"kind":"contains_display_name"}"#,
        "alice message bobbycar",
        3
    ));
    for (is, count, expected) in [
        ("3", 3, true),
        ("==3", 3, true),
        ("3", 4, false),
        ("<3", 2, true),
        ("<3", 3, false),
        (">3", 4, true),
        (">3", 3, false),
        (">=3", 3, true),
        ("<=3", 4, false),
    ] {
        let condition = format!(r#"{{"kind":"room_member_count","is":"{is}"}}"#);
        assert_eq!(holds(&condition, says, count), expected, "{is} {count}");
    }
    let permission = r#"{"kind":"sender_notification_permission","key":"room"}"#;
    assert!(holds(permission, says, 3));
    assert!(!holds(permission, "carol message x", 3));
    let typed = r#"alice send x {"a":{"b.c":[1,"two",null,{"no":1}],"d\\e":true},"n":7,"z":null}"#;
    for (condition, expected) in [
        (
            r#"{"kind":"event_property_is","key":"content.n","value":7}"#,
            true,
        ),
        (
            r#"{"kind":"event_property_is","key":"content.n","value":"7"}"#,
            false,
        ),
        (
            r#"{"kind":"event_property_is","key":"content.z","value":null}"#,
            true,
        ),
        (
            r#"{"kind":"event_property_is","key":"content.y","value":null}"#,
            false,
        ),
        (
            r#"{"kind":"event_property_is","key":"content.a.d\\\\e","value":true}"#,
            true,
        ),
        (
            r#"{"kind":"event_property_is","key":"content.a","value":true}"#,
            false,
        ),
        (
            r#"{"kind":"event_property_contains","key":"content.a.b\\.c","value":"two"}"#,
            true,
        ),
        (
            r#"{"kind":"event_property_contains","key":"content.a.b\\.c","value":1}"#,
            true,
        ),
        (
            r#"{"kind":"event_property_contains","key":"content.a.b.c","value":1}"#,
            false,
        ),
        (
            r#"{"kind":"event_property_contains","key":"content.n","value":7}"#,
            false,
        ),
        (r#"{"kind":"event_match","key":"type","pattern":"X"}"#, true),
        (
            r#"{"kind":"event_match","key":"content.n","pattern":"*"}"#,
            false,
        ),
        (
            r#"{"kind":"event_match","key":"sender","pattern":"@A*:example.???"}"#,
            true,
        ),
        (r#"{"kind":"of_tomorrow"}"#, false),
    ] {
        assert_eq!(holds(condition, typed, 3), expected, "{condition}");
    }
}

#[test]
fn globs() {
    for (pattern, text, expected) in [
        ("", "", true),
        ("a", "a", true),
        ("a", "b", false),
        ("*", "", true),
        ("*", "abc", true),
        ("?", "", false),
        ("?", "é", true),
        ("a*c", "abbbc", true),
        ("a*c", "ac", true),
        ("a*c", "acb", false),
        ("*a*b*", "xxaxxbxx", true),
        ("a?c", "abc", true),
        ("a**b", "ab", true),
        ("*aab", "aaab", true),
    ] {
        assert_eq!(glob::matches(pattern, text), expected, "{pattern} {text}");
    }
    for (pattern, text, expected) in [
        ("ex*ple", "an example event.", true),
        ("ex*ple", "exple", true),
        ("ex*ple", "an exciting triple-whammy", true),
        ("ex*ple", "hexample", false),
        ("foo", "foo", true),
        ("foo", "a foo b", true),
        ("foo", "foobar", false),
        ("foo", "barfoo", false),
        ("foo", "foobar foo", true),
        ("foo", "foo-bar", true),
        ("foo", "éfooé", true),
        ("foo", "_foo", false),
        ("f?o", "xf-o f-o", true),
        ("f?o", "xf-o", false),
        ("*", "x", true),
        ("foo*", "say food", true),
        ("@room", "x @room y", true),
        ("aa", "aaa aa", true),
        ("", "x", false),
    ] {
        assert_eq!(
            glob::matches_words(pattern, text),
            expected,
            "{pattern} {text}"
        );
    }
    let (pattern, text) = ("*a".repeat(400), "a ".repeat(20_000));
    assert!(glob::matches(&pattern, text.trim_end()));
    assert!(!glob::matches_words(&format!("{pattern}x"), &text));
}

/// The defaults give the same with ruma's own evaluation.
#[test]
fn agrees_with_ruma() {
    let mut room = room("bob carol");
    for line in [
        "alice message hello",
        "alice message bob",
        r#"alice send m.room.message {"body":"x","m.mentions":{"room":true}}"#,
        r#"carol send m.room.message {"body":"x","m.mentions":{"room":true}}"#,
        r#"carol send m.room.message {"body":"x","m.mentions":{"user_ids":["@bob:example.org"]}}"#,
        r#"alice send m.call.invite {"x":1}"#,
        r#"alice send m.room.message {"body":"x","msgtype":"m.notice"}"#,
        r#"alice state m.room.server_acl "" {}"#,
    ] {
        let event = room.add(line);
        let power = power(&room);
        let mut json = Vec::new();
        let options = crate::event::ClientOptions {
            room_id: true,
            ..Default::default()
        };
        event.write_client(&mut json, options);
        let raw: Raw<serde_json::Value> = serde_json::from_slice(&json).unwrap();
        let flat = FlattenedJson::from_raw(&raw);
        for count in [2_u32, 3] {
            let facts = EventFacts::new(&event, count.into(), power.clone());
            let rules = RoomVersion::V12.rules();
            let levels = PushConditionPowerLevelsCtx::new(
                Default::default(),
                0.into(),
                Default::default(),
                ruma_common::room_version_rules::RoomPowerLevelsRules::new(
                    &rules.authorization,
                    ["@alice:example.org".try_into().unwrap()],
                ),
            );
            let context = PushConditionRoomCtx::new(
                room.room_id().try_into().unwrap(),
                count.into(),
                BOB.try_into().unwrap(),
                "Bobby".to_owned(),
            )
            .with_power_levels(levels);
            for rule in &defaults() {
                let theirs = now(rule.applies(&flat, &context));
                assert_eq!(
                    facts.applies(rule, &Asker::new(Some("Bobby"))),
                    theirs,
                    "{line}: {}",
                    rule.rule_id()
                );
            }
        }
    }
    assert!(!ConditionalPushRule::master().enabled);
}

/// Runs a future that never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

#[test]
fn rules_without_end_cost_little() {
    let mut rules = defaults();
    for n in 0..2_000 {
        let pattern = format!("{}?b{n}", "*a".repeat(400));
        let rule = NewPatternedPushRule::new(format!("r{n}"), pattern, vec![]);
        rules
            .insert(NewPushRule::Content(rule), None, None)
            .unwrap();
    }
    let mut room = room("bob carol");
    let body = "a".repeat(60_000);
    let event = room.add(&format!("alice message {body}"));
    let facts = EventFacts::new(&event, 3, power(&room));
    // All of it would be 10^11 steps, a minute and more.
    let begun = std::time::Instant::now();
    let verdict = evaluate(&rules, &facts, Some("Bobby"), BOB, None);
    assert!(verdict.notify, "the server's own rules hold all the same");
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    let plain = defaults();
    let verdict = evaluate(&plain, &facts, Some("Carol"), "@carol:example.org", None);
    assert!(
        verdict.notify,
        "what one user uses up is not missing to others"
    );
}

/// MSC4306: what is said in a thread notifies those who follow it, and others only if they are
/// mentioned. Who says nothing about threads is not concerned.
#[test]
fn subscriptions_to_threads_decide() {
    let rules = defaults();
    let check = |line: &str, follows| {
        let mut room = room("bob carol");
        let event = room.add(line);
        let facts = EventFacts::new(&event, 3, power(&room));
        let verdict = evaluate(&rules, &facts, Some("Bobby"), BOB, follows);
        (verdict.notify, verdict.highlight)
    };
    let plain = "alice message Hello";
    let mention = r#"alice send m.room.message {"body":"x","msgtype":"m.text","m.mentions":{"user_ids":["@bob:example.org"]}}"#;
    let notice = r#"alice send m.room.message {"body":"x","msgtype":"m.notice"}"#;
    for (line, follows, expected) in [
        (plain, None, (true, false)),
        (plain, Some(true), (true, false)),
        (plain, Some(false), (false, false)),
        (mention, Some(false), (true, true)),
        (notice, Some(true), (false, false)),
    ] {
        assert_eq!(check(line, follows), expected, "{line} {follows:?}");
    }
}
