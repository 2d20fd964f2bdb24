//! `event_fields` of a filter: events reduced to the fields that a client asked for.
//!
//! This is the one place where events are parsed for a sync; few clients ask for it.

use serde_json::{Map, Value};

/// The events of a JSON array, each with nothing but these fields. A field that an event does not
/// have is passed over.
pub(crate) fn events(json: &[u8], fields: &[Vec<String>]) -> Vec<u8> {
    // What was rendered here is an array of objects; anything else would be left as it is.
    let Ok(events) = serde_json::from_slice::<Vec<Value>>(json) else {
        return json.to_vec();
    };
    let reduced: Vec<Value> = events.iter().map(|event| reduce(event, fields)).collect();
    serde_json::to_vec(&reduced).unwrap_or_else(|_| json.to_vec())
}

fn reduce(event: &Value, fields: &[Vec<String>]) -> Value {
    let mut kept = Value::Object(Map::new());
    for path in fields {
        if let Some(value) = path.iter().try_fold(event, |at, key| at.get(key)) {
            put(&mut kept, path, value.clone());
        }
    }
    kept
}

/// Sets a value at a path, making the objects on the way. A longer path through a value that was
/// kept whole changes nothing, since it is there already.
fn put(kept: &mut Value, path: &[String], value: Value) {
    let Some((last, way)) = path.split_last() else {
        return;
    };
    let mut at = kept;
    for key in way {
        let Some(object) = at.as_object_mut() else {
            return;
        };
        at = object
            .entry(key)
            .or_insert_with(|| Value::Object(Map::new()));
    }
    if let Some(object) = at.as_object_mut() {
        object.insert(last.clone(), value);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn only_what_was_asked_for_stays() {
        let json =
            br#"[{"type":"m.x","content":{"body":"hi","m.new":{"a":1,"b":2}},"sender":"@a:b"}]"#;
        let path = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        let fields = [
            path(&["type"]),
            path(&["content", "m.new", "a"]),
            path(&["content", "missing"]),
            path(&["type", "too", "deep"]),
        ];
        let reduced: Value = serde_json::from_slice(&events(json, &fields)).unwrap();
        assert_eq!(
            reduced,
            serde_json::json!([{"type":"m.x","content":{"m.new":{"a":1}}}])
        );
    }
}
