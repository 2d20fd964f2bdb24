#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

#[test]
fn new_users_follow_the_grammar() {
    assert_eq!(
        new_user_id("a.b_c=d-e/f+9", "x.org").unwrap(),
        "@a.b_c=d-e/f+9:x.org"
    );
    for bad in ["Alice", "a b", "ä", "a:b", "a\0", "a*"] {
        assert_eq!(
            new_user_id(bad, "x.org"),
            Err(NameError::Characters),
            "{bad}"
        );
    }
    assert_eq!(new_user_id("", "x.org"), Err(NameError::Empty));
    let longest = "a".repeat(255 - "@:x.org".len());
    assert!(new_user_id(&longest, "x.org").is_ok());
    assert_eq!(
        new_user_id(&format!("{longest}a"), "x.org"),
        Err(NameError::TooLong)
    );
}

#[test]
fn historical_users_are_accepted() {
    for id in [
        "@Alice:x.org",
        "@a b:x.org",
        "@ä:x.org",
        "@:x.org",
        "@a:1.2.3.4:80",
        "@a:[::1]",
    ] {
        assert!(is_user_id(id), "{id}");
    }
    for id in [
        "",
        "@",
        "alice:x.org",
        "@alice",
        "@alice:",
        "@a\0b:x.org",
        "@a:x org",
    ] {
        assert!(!is_user_id(id), "{id}");
    }
    assert!(!is_user_id(&format!("@{}:x.org", "a".repeat(255))));
}

#[test]
fn aliases() {
    assert_eq!(
        new_room_alias("Räume_1", "x.org").unwrap(),
        "#Räume_1:x.org"
    );
    for bad in ["a b", "a:b", "a\0", "a\nb", "\u{a0}"] {
        assert_eq!(
            new_room_alias(bad, "x.org"),
            Err(NameError::Characters),
            "{bad:?}"
        );
    }
    assert_eq!(new_room_alias("", "x.org"), Err(NameError::Empty));
    assert_eq!(
        new_room_alias(&"a".repeat(250), "x.org"),
        Err(NameError::TooLong)
    );
    assert!(is_room_alias("#a:b") && !is_room_alias("#a") && !is_room_alias("a:b"));
}

#[test]
fn rooms_events_and_servers() {
    assert!(is_room_id("!a:b") && is_room_id("!abc") && !is_room_id("!") && !is_room_id("abc"));
    assert!(is_event_id("$a:b") && is_event_id("$abc") && !is_event_id("$") && !is_event_id("abc"));
    assert!(!is_event_id(&format!("${}", "a".repeat(255))));
    assert!(is_server_name("x.org:8448") && !is_server_name("x/y") && !is_server_name(""));
    assert_eq!(server_of("@a:b:80"), Some("b:80"));
    assert_eq!(server_of("!abc"), None);
    assert_eq!(
        (localpart_of("@a:b"), localpart_of("!abc"), localpart_of("")),
        ("a", "abc", "")
    );
}
