#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

fn strict(text: &str) -> Result<String, CanonicalError> {
    Value::parse(text.as_bytes(), Mode::Strict).map(|value| value.to_string())
}

fn lenient(text: &str) -> Result<String, CanonicalError> {
    Value::parse(text.as_bytes(), Mode::Lenient).map(|value| value.to_string())
}

/// The examples of the appendices, "Canonical JSON".
#[test]
fn the_examples_of_the_specification() {
    for (text, canonical) in [
        ("{}", "{}"),
        (r#"{ "one": 1, "two": "Two" }"#, r#"{"one":1,"two":"Two"}"#),
        (r#"{ "b": "2", "a": "1" }"#, r#"{"a":"1","b":"2"}"#),
        (r#"{"b":"2","a":"1"}"#, r#"{"a":"1","b":"2"}"#),
        (
            r#"{ "auth": { "success": true, "mxid": "@john.doe:example.com", "profile": {
                "display_name": "John Doe", "three_pids": [
                { "medium": "email", "address": "john.doe@example.org" },
                { "medium": "msisdn", "address": "123456789" } ] } } }"#,
            concat!(
                r#"{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","#,
                r#""three_pids":[{"address":"john.doe@example.org","medium":"email"},"#,
                r#"{"address":"123456789","medium":"msisdn"}]},"success":true}}"#
            ),
        ),
        (r#"{ "a": "日本語" }"#, r#"{"a":"日本語"}"#),
        (r#"{ "本": 2, "日": 1 }"#, r#"{"日":1,"本":2}"#),
        (r#"{ "a": "\u65E5" }"#, r#"{"a":"日"}"#),
        (r#"{ "a": null }"#, r#"{"a":null}"#),
    ] {
        assert_eq!(strict(text).unwrap(), canonical);
        assert_eq!(lenient(text).unwrap(), canonical);
    }
}

#[test]
fn numbers_that_only_old_rooms_may_hold() {
    for text in [
        "1.0",
        "1e3",
        "-0",
        "9007199254740992",
        "-9007199254740992",
        "1E400",
        "0.5",
    ] {
        assert!(
            matches!(strict(text), Err(CanonicalError::Number { at: 0 })),
            "{text}"
        );
    }
    assert_eq!(strict("9007199254740991").unwrap(), "9007199254740991");
    assert_eq!(strict("-9007199254740991").unwrap(), "-9007199254740991");
    assert_eq!(lenient("-0").unwrap(), "0");
    assert_eq!(
        lenient("9223372036854775808").unwrap(),
        "9223372036854775808"
    );
    assert_eq!(
        lenient("-9223372036854775808").unwrap(),
        "-9223372036854775808"
    );
    assert_eq!(
        lenient("123456789012345678901234567890").unwrap(),
        "123456789012345678901234567890"
    );
    assert!(lenient("1e400").is_err());
}

/// As Python, in which the servers of that time are written, prints them.
#[test]
fn floats_are_written_as_published() {
    for (text, canonical) in [
        ("0.0", "0.0"),
        ("-0.0", "-0.0"),
        ("1.0", "1.0"),
        ("-1.5", "-1.5"),
        ("0.10000000000000001", "0.1"),
        ("1000000000000000.0", "1000000000000000.0"),
        ("10000000000000000.0", "1e+16"),
        ("1.2345678901234568e+17", "1.2345678901234568e+17"),
        ("1e+22", "1e+22"),
        ("1e+21", "1e+21"),
        ("1e+100", "1e+100"),
        ("0.0001", "0.0001"),
        ("1.0000000000000001e-05", "1e-05"),
        ("1.2499999999999999e-07", "1.25e-07"),
        ("4.9406564584124654e-324", "5e-324"),
        ("1.7976931348623157e+308", "1.7976931348623157e+308"),
        ("2.5", "2.5"),
        ("100.0", "100.0"),
        ("50.57", "50.57"),
        ("9007199254740992.0", "9007199254740992.0"),
        ("0.00012339999999999999", "0.0001234"),
        ("9999999999999998.0", "9999999999999998.0"),
        ("99999999999999984.0", "9.999999999999998e+16"),
        ("0.33333333333333331", "0.3333333333333333"),
        ("6.6666666666666669e-11", "6.666666666666667e-11"),
        ("51146.980000000003", "51146.98"),
        ("10928588.983213553", "10928588.983213553"),
        ("1.4186613525849614e+134", "1.4186613525849614e+134"),
        ("-7.5719685560558675e-74", "-7.571968556055867e-74"),
        ("-1.4074705188261364e+113", "-1.4074705188261364e+113"),
        ("-3.3339745473042614e-121", "-3.3339745473042614e-121"),
        ("-1.2342180766211395e-271", "-1.2342180766211395e-271"),
        ("-5.1268640042449351e+111", "-5.126864004244935e+111"),
        ("-2.1520217579844227e+32", "-2.1520217579844227e+32"),
        ("0.1399601630397701", "0.1399601630397701"),
        ("1.01853664031722e-244", "1.01853664031722e-244"),
        ("2.9704598186234577e-115", "2.9704598186234577e-115"),
        ("3.0534183338726823e+150", "3.0534183338726823e+150"),
        ("-2.3027782228163463e+146", "-2.3027782228163463e+146"),
        ("3.5640962116365598e+161", "3.56409621163656e+161"),
        ("6.3529290172074526e-183", "6.352929017207453e-183"),
        ("0.31465758656053239", "0.3146575865605324"),
        ("-1.2761724801771812e-23", "-1.2761724801771812e-23"),
        ("2.0868668176225336e+195", "2.0868668176225336e+195"),
        ("3.6689882774570399e-84", "3.66898827745704e-84"),
        ("-1.389122273370197e+145", "-1.389122273370197e+145"),
        ("1.7548715433165102e+172", "1.7548715433165102e+172"),
        ("-1039514241563211.8", "-1039514241563211.8"),
        ("5.7804021771411506e-220", "5.7804021771411506e-220"),
        ("-2.8497478716107576e-163", "-2.8497478716107576e-163"),
    ] {
        assert_eq!(lenient(text).unwrap(), canonical);
    }
}

#[test]
fn what_is_not_json() {
    for text in [
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "01",
        "+1",
        ".5",
        "1.",
        "1e",
        "--1",
        "nul",
        "\"\\x\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\"",
        "\"\n\"",
        "\"abc",
        "\"\\u12\"",
        "[1 2]",
        "{\"a\" 1}",
        "1 2",
        "NaN",
        "Infinity",
        "'a'",
        "[1]x",
    ] {
        assert!(
            matches!(lenient(text), Err(CanonicalError::Syntax { .. })),
            "{text}"
        );
    }
    assert!(Value::parse(b"\"\xff\"", Mode::Lenient).is_err());
    assert_eq!(
        Object::parse(b"[]", Mode::Strict),
        Err(CanonicalError::NotAnObject)
    );
}

#[test]
fn bounds() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(strict(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(
        strict(&nested(MAX_DEPTH + 1)),
        Err(CanonicalError::TooDeep(MAX_DEPTH))
    );
    assert_eq!(
        strict(&"[".repeat(100_000)),
        Err(CanonicalError::TooDeep(MAX_DEPTH))
    );
    let long = format!("\"{}\"", "a".repeat(MAX_INPUT_BYTES));
    assert_eq!(strict(&long), Err(CanonicalError::TooLong(MAX_INPUT_BYTES)));
}

#[test]
fn the_last_of_equal_keys_counts() {
    assert_eq!(
        strict(r#"{"b":1,"a":1,"b":2,"a":3,"b":4}"#).unwrap(),
        r#"{"a":3,"b":4}"#
    );
    assert_eq!(strict(r#"{"a":1,"\u0061":2}"#).unwrap(), r#"{"a":2}"#);
}

#[test]
fn strings_are_escaped_no_more_than_needed() {
    let text = "\u{0}\u{1}\u{8}\t\n\u{b}\u{c}\r\u{1f} \"\\/\u{7f}é\u{1f600}";
    let written = Value::from(text).to_string();
    assert_eq!(
        written,
        "\"\\u0000\\u0001\\b\\t\\n\\u000b\\f\\r\\u001f \\\"\\\\/\u{7f}é\u{1f600}\""
    );
    let mut bytes = Vec::new();
    write_string_bytes(text, &mut bytes);
    assert_eq!(bytes, written.as_bytes());
    assert_eq!(strict("\"\\ud83d\\ude00\"").unwrap(), "\"\u{1f600}\"");
}

#[test]
fn objects_keep_their_order() {
    let mut object = Object::new();
    for name in ["c", "a", "b", "é", "\u{ffff}", "\u{10000}"] {
        assert_eq!(object.insert(name, 1), None);
    }
    assert_eq!(object.insert("b", 2), Some(Value::Int(1)));
    assert_eq!(object.remove("c"), Some(Value::Int(1)));
    assert_eq!(object.remove("c"), None);
    let names: Vec<_> = object.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b", "é", "\u{ffff}", "\u{10000}"]);
    let mut text = String::new();
    object.write_without(&["a", "é"], &mut text);
    assert_eq!(text, "{\"b\":2,\"\u{ffff}\":1,\"\u{10000}\":1}");
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        (-MAX_INT..=MAX_INT).prop_map(Into::into),
        ".*".prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            prop::collection::hash_map(".*", inner, 0..8)
                .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Ours and serde's readers and writers agree, and writing is stable.
    #[test]
    fn agrees_with_serde(json in any_json()) {
        let pretty = serde_json::to_string_pretty(&json).unwrap();
        let value = Value::parse(pretty.as_bytes(), Mode::Strict).unwrap();
        prop_assert_eq!(&Value::from_json(&json, Mode::Strict).unwrap(), &value);
        prop_assert_eq!(&value.to_json(), &json);
        let text = value.to_string();
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), json);
        prop_assert_eq!(Value::parse(text.as_bytes(), Mode::Strict).unwrap().to_string(), text);
    }

    /// Any float is written so that it reads back as itself, and is stable.
    #[test]
    fn floats_round_trip(f in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO) {
        let text = number::float_text(f).unwrap();
        prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), f.to_bits());
        prop_assert_eq!(lenient(&text).unwrap(), text);
    }

    /// No bytes bring the parser down.
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Value::parse(&bytes, Mode::Lenient);
    }

    /// Nor does anything that looks like JSON; what it accepts serde accepts too.
    #[test]
    fn near_json(text in r#"[\[\]{}:,"\\u0-9a-fe.+\- truefalsn]{0,60}"#) {
        if let Ok(value) = Value::parse(text.as_bytes(), Mode::Strict) {
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value.to_json());
        }
    }
}

#[test]
fn bodies_of_any_depth_have_a_canonical_text() {
    let rewritten = |text: &str| canonical_object(text.as_bytes(), Mode::Lenient, 1 << 20);
    let text =
        r#" { "b" : [ ] , "a" : { "y" : [ 1 , -0 , 2.50, "\u00e4\/" ] , "x" : { } }, "b": null } "#;
    let expected = Object::parse(text.as_bytes(), Mode::Lenient).unwrap();
    assert_eq!(rewritten(text).unwrap(), expected.to_string());
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"pdus":[{{"deep":{open}{close}}},{{"b":1,"a":2}}]}}"#)
    };
    let deep = rewritten(&nested(32_768)).unwrap();
    assert!(
        deep.ends_with(r#",{"a":2,"b":1}]}"#),
        "{}",
        &deep[deep.len() - 40..]
    );
    assert_eq!(
        rewritten(&nested(40_000)),
        Err(CanonicalError::TooDeep(MAX_BODY_DEPTH))
    );
    for wrong in [
        "",
        "{",
        "[]",
        "1",
        "{} x",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":[1,]}",
        "{,}",
        "{\"a\":[}",
        "{\"a\":{]",
        "{\"a\":1 \"b\":2}",
        "{\"a\":[1 2]}",
    ] {
        let said = Object::parse(wrong.as_bytes(), Mode::Lenient);
        assert_eq!(rewritten(wrong).is_err(), said.is_err(), "{wrong}");
        assert!(said.is_err(), "{wrong}");
    }
    let long = canonical_object(b"{\"a\":1}", Mode::Strict, 3);
    assert_eq!(long, Err(CanonicalError::TooLong(3)));
}

proptest! {
    /// What both can read, both write alike.
    #[test]
    fn the_two_ways_to_a_canonical_text_agree(text in "[\\[\\]{}\",:ab1 ]{0,24}") {
        let one = Object::parse(text.as_bytes(), Mode::Strict).map(|object| object.to_string());
        let two = canonical_object(text.as_bytes(), Mode::Strict, 1 << 10);
        prop_assert_eq!(one.ok(), two.ok());
    }
}
