//! Canonical JSON: the one byte form of a JSON value that hashes and signatures are made over.
//!
//! Two modes, because rooms of versions 1 to 5 may hold what the specification later forbade
//! (floats, integers beyond 2^53): [`Mode::Strict`] refuses these, [`Mode::Lenient`] keeps them and
//! writes them as the servers of that time publish them, so that hashes agree.
//! Spec: appendices, "Canonical JSON"; rooms/v6, "Canonical JSON".

mod flat;
mod number;
mod parse;
#[cfg(test)]
mod tests;

use std::fmt;

pub use flat::{MAX_BODY_DEPTH, canonical_object};

/// Largest integer canonical JSON may hold: 2^53 - 1. The smallest is its negative.
pub const MAX_INT: i64 = (1 << 53) - 1;

/// How deeply arrays and objects may be nested in anything parsed here.
pub const MAX_DEPTH: usize = 100;

/// Longest input text parsed by default, in bytes: an event of 65,536 bytes with each byte escaped.
pub const MAX_INPUT_BYTES: usize = 6 * 65_536;

/// Which numbers are allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Integers within ±(2^53 - 1) only (room versions 6 and up, and everything clients send).
    Strict,
    /// Any finite JSON number (events of room versions 1 to 5).
    Lenient,
}

/// Why a text is not an acceptable JSON value. Positions are byte offsets into the input.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CanonicalError {
    /// The input is longer than the limit.
    #[error("JSON text longer than {0} bytes")]
    TooLong(usize),
    /// Nested deeper than the limit.
    #[error("JSON nested deeper than {0} levels")]
    TooDeep(usize),
    /// Not JSON.
    #[error("not valid JSON at byte {at}: {what}")]
    Syntax {
        /// Where the parser stopped.
        at: usize,
        /// What it expected or found.
        what: &'static str,
    },
    /// A number that the mode does not allow.
    #[error("number not allowed in canonical JSON at byte {at}")]
    Number {
        /// Where the number starts.
        at: usize,
    },
    /// JSON, but not an object where an object is needed.
    #[error("not a JSON object")]
    NotAnObject,
}

/// A JSON value.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Value {
    /// `null`
    #[default]
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer that fits; within ±(2^53 - 1) in strict mode.
    Int(i64),
    /// Lenient mode only: the canonical text of any other number.
    Number(Box<str>),
    /// A string.
    Str(String),
    /// An array.
    Array(Vec<Value>),
    /// An object.
    Object(Object),
}

impl Value {
    /// Parses a whole JSON text within the default limits.
    ///
    /// # Errors
    /// Not JSON, too long, too deep, or a number that `mode` does not allow.
    pub fn parse(text: &[u8], mode: Mode) -> Result<Self, CanonicalError> {
        parse::parse(text, mode, MAX_INPUT_BYTES, MAX_DEPTH)
    }

    /// The same with a limit of one's own for the length of the text, in bytes.
    ///
    /// # Errors
    /// As [`Value::parse`].
    pub fn parse_within(text: &[u8], mode: Mode, max_bytes: usize) -> Result<Self, CanonicalError> {
        parse::parse(text, mode, max_bytes, MAX_DEPTH)
    }

    /// The same value from serde's.
    ///
    /// # Errors
    /// Too deep, or a number that `mode` does not allow.
    pub fn from_json(value: &serde_json::Value, mode: Mode) -> Result<Self, CanonicalError> {
        parse::from_json(value, mode, MAX_DEPTH)
    }

    /// The same value as serde's; a number too big for it becomes a float.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Null => serde_json::Value::Null,
            Value::Bool(b) => (*b).into(),
            Value::Int(n) => (*n).into(),
            Value::Number(text) => text
                .parse::<f64>()
                .ok()
                .map_or(serde_json::Value::Null, Into::into),
            Value::Str(s) => s.as_str().into(),
            Value::Array(items) => items.iter().map(Value::to_json).collect::<Vec<_>>().into(),
            Value::Object(object) => {
                let fields = object.iter().map(|(k, v)| (k.to_owned(), v.to_json()));
                serde_json::Value::Object(fields.collect())
            }
        }
    }

    /// Appends the canonical text.
    pub fn write(&self, out: &mut String) {
        match self {
            Value::Null => out.push_str("null"),
            Value::Bool(true) => out.push_str("true"),
            Value::Bool(false) => out.push_str("false"),
            Value::Int(n) => number::write_int(*n, out),
            Value::Number(text) => out.push_str(text),
            Value::Str(s) => write_string(s, out),
            Value::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Value::Object(object) => object.write(out),
        }
    }

    /// The string, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Value::Str(s) = self {
            Some(s)
        } else {
            None
        }
    }

    /// The integer, if it is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        if let Value::Int(n) = self {
            Some(*n)
        } else {
            None
        }
    }

    /// The boolean, if it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(b) = self {
            Some(*b)
        } else {
            None
        }
    }

    /// The items, if it is an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Value]> {
        if let Value::Array(items) = self {
            Some(items)
        } else {
            None
        }
    }

    /// The object, if it is one.
    #[must_use]
    pub fn as_object(&self) -> Option<&Object> {
        if let Value::Object(object) = self {
            Some(object)
        } else {
            None
        }
    }
}

/// The canonical text.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write(&mut text);
        f.write_str(&text)
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Value::Str(s.to_owned())
    }
}

impl From<String> for Value {
    fn from(s: String) -> Self {
        Value::Str(s)
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Value::Bool(b)
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Value::Int(n)
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Value::Object(object)
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Value::Array(items)
    }
}

/// A JSON object with its keys in canonical order (by code point), each at most once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Object(Vec<(String, Value)>);

impl Object {
    /// No fields.
    #[must_use]
    pub const fn new() -> Self {
        Object(Vec::new())
    }

    /// Parses a whole JSON text that must be an object, within the default limits.
    ///
    /// # Errors
    /// As [`Value::parse`], or [`CanonicalError::NotAnObject`].
    pub fn parse(text: &[u8], mode: Mode) -> Result<Self, CanonicalError> {
        match Value::parse(text, mode)? {
            Value::Object(object) => Ok(object),
            _ => Err(CanonicalError::NotAnObject),
        }
    }

    /// The same with a limit of one's own for the length of the text, in bytes: for bodies of
    /// requests and answers, which hold many events.
    ///
    /// # Errors
    /// As [`Object::parse`].
    pub fn parse_within(text: &[u8], mode: Mode, max_bytes: usize) -> Result<Self, CanonicalError> {
        match Value::parse_within(text, mode, max_bytes)? {
            Value::Object(object) => Ok(object),
            _ => Err(CanonicalError::NotAnObject),
        }
    }

    /// The same object from serde's value.
    ///
    /// # Errors
    /// As [`Value::from_json`], or [`CanonicalError::NotAnObject`].
    pub fn from_json(value: &serde_json::Value, mode: Mode) -> Result<Self, CanonicalError> {
        match Value::from_json(value, mode)? {
            Value::Object(object) => Ok(object),
            _ => Err(CanonicalError::NotAnObject),
        }
    }

    /// From fields in any order; of fields with equal names the last one counts, as in the JSON
    /// parsers that published servers use.
    #[must_use]
    pub fn from_fields(fields: Vec<(String, Value)>) -> Self {
        Object(in_order(fields))
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(key, _)| key.as_str().cmp(name))
    }

    /// The field's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.find(name)
            .ok()
            .and_then(|i| self.0.get(i))
            .map(|(_, value)| value)
    }

    /// The field's value, to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        let i = self.find(name).ok()?;
        self.0.get_mut(i).map(|(_, value)| value)
    }

    /// The field's value where it is a string.
    #[must_use]
    pub fn str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// The field's value where it is an integer.
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(Value::as_int)
    }

    /// The field's value where it is an object.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<&Object> {
        self.get(name).and_then(Value::as_object)
    }

    /// Sets the field; gives back what was there.
    pub fn insert(&mut self, name: &str, value: impl Into<Value>) -> Option<Value> {
        let value = value.into();
        match self.find(name) {
            Ok(i) => self
                .0
                .get_mut(i)
                .map(|(_, old)| std::mem::replace(old, value)),
            Err(i) => {
                self.0.insert(i, (name.to_owned(), value));
                None
            }
        }
    }

    /// Takes the field out.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        self.find(name).ok().map(|i| self.0.remove(i).1)
    }

    /// Keeps the fields for which `keep` answers yes.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &mut Value) -> bool) {
        self.0.retain_mut(|(name, value)| keep(name, value));
    }

    /// The fields in canonical order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Number of fields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the canonical text.
    pub fn write(&self, out: &mut String) {
        self.write_without(&[], out);
    }

    /// Appends the canonical text, leaving out the top-level fields named.
    pub fn write_without(&self, omit: &[&str], out: &mut String) {
        out.push('{');
        let mut first = true;
        for (name, value) in &self.0 {
            if omit.contains(&name.as_str()) {
                continue;
            }
            if !first {
                out.push(',');
            }
            first = false;
            write_string(name, out);
            out.push(':');
            value.write(out);
        }
        out.push('}');
    }

    /// The same object as serde's value.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        Value::Object(self.clone()).to_json()
    }
}

/// The canonical text.
impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write(&mut text);
        f.write_str(&text)
    }
}

impl FromIterator<(String, Value)> for Object {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(fields: I) -> Self {
        Object::from_fields(fields.into_iter().collect())
    }
}

/// Fields in canonical order; of those with equal names the last one.
fn in_order<T>(mut fields: Vec<(String, T)>) -> Vec<(String, T)> {
    let sorted = fields.windows(2).all(|w| matches!(w, [a, b] if a.0 < b.0));
    if !sorted {
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        fields.reverse();
        fields.dedup_by(|later, kept| later.0 == kept.0);
        fields.reverse();
    }
    fields
}

/// Appends `s` as a JSON string with its quotes, escaping only what must be escaped.
pub fn write_string(s: &str, out: &mut String) {
    out.push('"');
    let mut rest = s;
    while let Some(i) = rest
        .bytes()
        .position(|b| b < 0x20 || b == b'"' || b == b'\\')
    {
        // The byte found is ASCII, so it can be split off on both sides.
        let (plain, tail) = rest.split_at(i);
        out.push_str(plain);
        let byte = tail.bytes().next().unwrap_or_default();
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            0x08 => out.push_str("\\b"),
            0x09 => out.push_str("\\t"),
            0x0A => out.push_str("\\n"),
            0x0C => out.push_str("\\f"),
            0x0D => out.push_str("\\r"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.push_str("\\u00");
                for digit in [byte >> 4, byte & 15] {
                    out.push(HEX.get(usize::from(digit)).map_or('0', |&d| char::from(d)));
                }
            }
        }
        rest = tail.get(1..).unwrap_or_default();
    }
    out.push_str(rest);
    out.push('"');
}

/// Appends `s` as a JSON string to bytes; see [`write_string`].
pub fn write_string_bytes(s: &str, out: &mut Vec<u8>) {
    if s.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        out.push(b'"');
        out.extend_from_slice(s.as_bytes());
        out.push(b'"');
    } else {
        let mut text = String::with_capacity(s.len() + 8);
        write_string(s, &mut text);
        out.extend_from_slice(text.as_bytes());
    }
}
