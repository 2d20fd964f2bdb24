#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Field, Piece, Pieces, PiecesError, Want};

const FIELDS: &[Field] = &[
    Field {
        name: "state",
        want: Want::Items(5),
        max_bytes: 200,
    },
    Field {
        name: "event",
        want: Want::Whole,
        max_bytes: 200,
    },
];

/// Reads a text that comes in pieces of these lengths, over and over.
fn read(text: &[u8], lengths: &[usize]) -> Result<Vec<Piece>, PiecesError> {
    let mut pieces = Pieces::new(FIELDS);
    let (mut rest, mut out) = (text, Vec::new());
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (now, then) = rest.split_at((*length).clamp(1, rest.len()));
        pieces.feed(now, &mut out)?;
        assert!(pieces.held.len() <= 200, "what is held stays bounded");
        rest = then;
    }
    pieces.end()?;
    Ok(out)
}

/// The pieces as values, with the names of their fields.
fn values(pieces: &[Piece]) -> Vec<(&'static str, Value)> {
    let value = |piece: &Piece| serde_json::from_slice(&piece.json).unwrap();
    let named = pieces
        .iter()
        .map(|piece| (FIELDS[piece.field].name, value(piece)));
    named.collect()
}

#[test]
fn an_answer_is_read_wherever_it_is_cut() {
    let text = br#" { "origin" : "a\"]}b" ,"state":[ {"a":[1,{"b":"]"}]} , "x\\" ,7 ],
        "members_omitted":false,"\u0065vent":{"c":"}"},"servers":[["a"],{}], "n":-1.5e3}  "#;
    let whole = read(text, &[usize::MAX]).unwrap();
    let expected = vec![
        ("state", json!({ "a": [1, { "b": "]" }] })),
        ("state", json!("x\\")),
        ("state", json!(7)),
        ("event", json!({ "c": "}" })),
    ];
    assert_eq!(values(&whole), expected);
    for length in 1..text.len() {
        assert_eq!(read(text, &[length]), Ok(whole.clone()), "cut at {length}");
        let twice = [length, text.len()];
        assert_eq!(read(text, &twice), Ok(whole.clone()), "cut at {length}");
    }
}

#[test]
fn what_is_no_such_answer_is_refused() {
    let refused: [(&[u8], PiecesError); 15] = [
        (b"", PiecesError::Early(0)),
        (b"{\"state\":[{\"a\":1}", PiecesError::Early(17)),
        (b"[]", PiecesError::Syntax(0)),
        (b"{} x", PiecesError::Syntax(3)),
        (b"{\"a\":1,}", PiecesError::Syntax(7)),
        (b"{\"state\":[1,]}", PiecesError::Syntax(12)),
        (b"{\"a\":[}}", PiecesError::Syntax(6)),
        (b"{\"a\" 1}", PiecesError::Syntax(5)),
        (b"{\"a\":!}", PiecesError::Syntax(5)),
        (b"{\"a\":tru\"e}", PiecesError::Syntax(8)),
        (b"{\"a\":\"\n\"}", PiecesError::Syntax(6)),
        (b"{\"state\":{}}", PiecesError::NoList("state")),
        (b"{\"state\":[],\"state\":[]}", PiecesError::Twice("state")),
        (b"{\"state\":[1,2,3,4,5,6]}", PiecesError::TooMany("state")),
        (
            b"{\"event\":1,\"\\u0065vent\":2}",
            PiecesError::Twice("event"),
        ),
    ];
    for (text, error) in refused {
        let shown = String::from_utf8_lossy(text);
        assert_eq!(read(text, &[usize::MAX]), Err(error.clone()), "{shown}");
        assert_eq!(read(text, &[1]), Err(error), "{shown}");
    }
}

#[test]
fn what_is_too_large_ends_the_reading_before_it_is_held() {
    let long = format!("{{\"event\":\"{}\"}}", "x".repeat(10_000));
    let mut pieces = Pieces::new(FIELDS);
    let fed = long
        .as_bytes()
        .chunks(50)
        .take_while(|chunk| pieces.feed(chunk, &mut Vec::new()).is_ok());
    assert!(fed.count() <= 6, "it is given up soon");
    let deep = format!("{{\"other\":{}", "[".repeat(40_000));
    assert_eq!(read(deep.as_bytes(), &[7]), Err(PiecesError::TooDeep));
    let passed = format!("{{\"other\":\"{0}\",\"{0}\":1}}", "x".repeat(10_000));
    assert_eq!(read(passed.as_bytes(), &[100]), Ok(Vec::new()));
}

/// Any JSON value, small.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[ -~é\\n\"\\\\{}\\[\\]]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-c\"\\\\]{0,2}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn it_reads_what_a_parser_of_the_whole_reads(
        state in prop::collection::vec(any_value(), 0..5),
        event in any_value(),
        other in any_value(),
        lengths in prop::collection::vec(1_usize..9, 1..5),
    ) {
        let whole = json!({ "a": other, "event": event, "other": other, "state": state });
        let text = whole.to_string();
        let fits = |value: &Value| value.to_string().len() <= 200;
        prop_assume!(fits(&event) && state.iter().all(fits));
        let read = read(text.as_bytes(), &lengths).unwrap();
        let mut expected = vec![("event", event)];
        expected.extend(state.into_iter().map(|item| ("state", item)));
        prop_assert_eq!(values(&read), expected);
    }

    /// Whatever comes, cuts do not change what is made of it, and nothing panics.
    #[test]
    fn no_bytes_confuse_it(
        other in any_value(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        noise in prop::collection::vec(any::<u8>(), 0..4),
        lengths in prop::collection::vec(1_usize..9, 1..5),
    ) {
        let whole = json!({ "state": [other, other], "event": other, "x": other });
        let mut text = whole.to_string().into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        text.splice(at..at, noise);
        let once = read(&text, &[usize::MAX]);
        let cut = read(&text, &lengths);
        prop_assert_eq!(&cut, &once);
        if let (Ok(Value::Object(_)), Err(error)) = (serde_json::from_slice(&text), once) {
            let limit = matches!(error, PiecesError::Twice(_) | PiecesError::NoList(_)
                | PiecesError::TooMany(_) | PiecesError::TooLong(_) | PiecesError::TooDeep);
            prop_assert!(limit, "refused though it is an object: {}", error);
        }
    }
}
