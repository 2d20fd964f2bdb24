#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

#[test]
fn the_empty_filter_wants_everything() {
    let filter = Filter::parse(b"{}").unwrap();
    assert!(filter.wants_room("!a:b") && filter.room.timeline.passes_all());
    assert!(filter.presence.wants_type("m.presence") && !filter.lazy() && !filter.by_thread());
    assert_eq!(filter.timeline_limit(), 10);
}

#[test]
fn rooms_are_included_and_excluded() {
    let filter =
        Filter::parse(br#"{"room":{"rooms":["!a:b","!c:d"],"not_rooms":["!c:d"]}}"#).unwrap();
    assert!(filter.wants_room("!a:b") && !filter.wants_room("!c:d") && !filter.wants_room("!e:f"));
}

#[test]
fn an_empty_list_lets_nothing_through() {
    let filter = Filter::parse(br#"{"presence":{"types":[]},"account_data":{"senders":[]}}"#);
    let filter = filter.unwrap();
    assert!(!wants(&filter.presence, "m.presence", "@a:b"));
    assert!(!wants(&filter.account_data, "m.direct", "@a:b"));
    assert!(wants(&filter.room.account_data, "m.tag", "@a:b"));
}

#[test]
fn wrong_types_are_refused_and_unknown_keys_ignored() {
    assert!(Filter::parse(br#"{"new":{"x":1},"room":{"new":2,"state":{"new":[]}}}"#).is_ok());
    for text in [
        r#"{"room":{"state":{"lazy_load_members":"true"}}}"#,
        r#"{"room":{"state":{"include_redundant_members":1}}}"#,
        r#"{"room":{"timeline":{"limit":"2"}}}"#,
        r#"{"room":{"timeline":{"limit":-1}}}"#,
        r#"{"room":{"rooms":"!a:b"}}"#,
        r#"{"presence":{"types":[1]}}"#,
        r#"{"event_format":"xml"}"#,
    ] {
        assert!(
            matches!(Filter::parse(text.as_bytes()), Err(BadFilter::Shape(_))),
            "{text}"
        );
    }
    assert_eq!(Filter::parse(b"{").unwrap_err(), BadFilter::NotJson);
    assert_eq!(
        Filter::parse(&vec![b' '; FILTER_BYTES_MAX + 1]).unwrap_err(),
        BadFilter::TooLarge
    );
    let long = format!(
        "{{\"presence\":{{\"types\":[{}\"x\"]}}}}",
        "\"x\",".repeat(1_000)
    );
    assert_eq!(
        Filter::parse(long.as_bytes()).unwrap_err(),
        BadFilter::TooLarge
    );
}

#[test]
fn the_limit_is_bounded() {
    let limit = |text: &str| Filter::parse(text.as_bytes()).unwrap().timeline_limit();
    assert_eq!(limit(r#"{"room":{"timeline":{"limit":0}}}"#), 0);
    assert_eq!(limit(r#"{"room":{"timeline":{"limit":37}}}"#), 37);
    assert_eq!(
        limit(r#"{"room":{"timeline":{"limit":18446744073709551615}}}"#),
        100
    );
}

#[test]
fn field_paths_split_at_plain_dots() {
    assert_eq!(keys_of("content.body"), ["content", "body"]);
    assert_eq!(
        keys_of(r"content.m\.relates_to"),
        ["content", "m.relates_to"]
    );
    assert_eq!(keys_of(r"a\\b.c"), [r"a\b", "c"]);
    assert_eq!(keys_of("type"), ["type"]);
}

#[test]
fn fields_count_once_and_are_bounded() {
    let filter = |paths: Vec<String>| {
        let json = serde_json::json!({ "event_fields": paths });
        Filter::parse(json.to_string().as_bytes())
    };
    let same = filter(vec!["content".to_owned(); 5_000]).unwrap();
    assert_eq!(same.event_fields, Some(vec![vec!["content".to_owned()]]));
    let many = filter((0..1_001).map(|n| format!("content.{n}")).collect());
    assert_eq!(many.unwrap_err(), BadFilter::TooLarge);
}
