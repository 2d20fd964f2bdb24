#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::fixtures::RoomFixture;

fn terms_of(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    terms(text, |term| found.push(term.to_owned()));
    found
}

#[test]
fn texts_are_cut_into_terms() {
    for (text, expected) in [
        ("Hello, World!", &["hello", "world"][..]),
        ("Müller's Straße", &["muller", "s", "strasse"]),
        (
            "see https://matrix.org/faq",
            &["see", "https", "matrix", "org", "faq"],
        ),
        ("東京都", &["東京", "京都", "都"]),
        ("カナabc", &["かな", "な", "abc"]),
        ("한국어를", &["한국", "국어", "어를", "를"]),
        ("木", &["木"]),
        ("नमस्ते", &["नमस्ते"]),
        ("...", &[]),
    ] {
        assert_eq!(terms_of(text), expected, "{text}");
    }
    let long = "x".repeat(200);
    assert_eq!(terms_of(&long), ["x".repeat(64)]);
}

#[test]
fn searches_find_what_they_say() {
    for (query, text, expected) in [
        ("hello", "Hello World", true),
        ("hello world", "world, hello", true),
        ("hello moon", "Hello World", false),
        ("hello -world", "Hello World", false),
        ("hello -moon", "Hello World", true),
        ("moon or world", "Hello World", true),
        ("moon OR sun", "Hello World", false),
        ("\"hello world\"", "Hello World", true),
        ("\"world hello\"", "Hello World", false),
        ("\"lo wor\"", "Hello World", false),
        ("hello -\"hello world\"", "Hello World", false),
        ("hello -\"world hello\"", "Hello World", true),
        ("hel", "Hello World", false),
        ("hel*", "Hello World", true),
        ("muller", "Jörg MÜLLER", true),
        ("MÜLLER", "jorg muller", true),
        ("東京", "東京都に住む", true),
        ("京", "東京", true),
        ("京都", "東京都", true),
        ("東京都", "京都と東京", false),
        ("東京都", "東京都", true),
        ("カタカナ", "ひらがなとかたかな", true),
        ("한국어", "한국어를 배워요", true),
        ("matrix.org", "see https://matrix.org/faq", true),
        ("-hello", "Hello World", false),
        ("", "Hello World", false),
        ("...", "...", false),
        ("\"", "Hello", false),
    ] {
        let asked = Query::parse(query);
        assert_eq!(
            asked.matches(text),
            expected,
            "{query} in {text}: {asked:?}"
        );
    }
}

#[test]
fn searches_are_bounded() {
    let many = "word ".repeat(5_000);
    assert_eq!(Query::parse(&many).any[0].all.len(), 1, "the same once");
    let many: String = (0..500).map(|n| format!("w{n} ")).collect();
    assert_eq!(Query::parse(&many).any[0].all.len(), 32);
    let long: String = ('一'..'伀').collect();
    let query = Query::parse(&long);
    assert_eq!(query.any[0].all[0].terms.len(), 32);
    assert!(query.matches(&long));
}

#[test]
fn what_matched_is_named_as_it_is_written() {
    let mut found = BTreeSet::new();
    let query = Query::parse("muller hel* 東京");
    query.highlight("Herr Müller says hello; MÜLLER in 東京都", &mut found);
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(found, ["hello", "müller", "東京"]);
}

#[test]
fn events_are_found_by_body_name_and_topic() {
    let mut room = RoomFixture::public();
    let mut text = |line: &str| text_of(&room.add(line));
    assert_eq!(text("alice message Hi"), Some((Key::Body, "Hi".to_owned())));
    let topic = r#"alice state m.room.topic "" {"topic":"Tea"}"#;
    assert_eq!(text(topic), Some((Key::Topic, "Tea".to_owned())));
    for nothing in [
        r#"alice send m.room.message {"body":3,"msgtype":"m.text"}"#,
        r#"alice send m.room.message {"body":"","msgtype":"m.text"}"#,
        r#"alice send m.room.encrypted {"ciphertext":"x"}"#,
        r#"alice send m.room.topic {"topic":"no state"}"#,
    ] {
        assert_eq!(text(nothing), None, "{nothing}");
    }
}

proptest! {
    /// Whatever text: each of its words finds it, and so does all of it as a phrase.
    #[test]
    fn a_text_is_found_by_its_words(text in "[a-dÄöß東京都カ한국 .'*-]{1,30}") {
        let words = plain(&text);
        for word in words.split(' ').filter(|word| !word.is_empty()) {
            let query = Query::parse(&format!("\"{word}\""));
            prop_assert!(query.matches(&text), "{} in {}", word, text);
        }
        if !words.is_empty() {
            let query = Query::parse(&format!("\"{words}\""));
            prop_assert!(query.any.is_empty() || query.matches(&text));
        }
    }

    /// Nothing that is typed breaks anything.
    #[test]
    fn any_search_can_be_read(query in "\\PC{0,60}", text in "\\PC{0,60}") {
        let query = Query::parse(&query);
        let _found: bool = query.matches(&text);
        query.highlight(&text, &mut BTreeSet::new());
        for some in &query.any {
            prop_assert!(!some.all.is_empty());
        }
    }
}
