//! Writing JSON straight to bytes: what is JSON already is copied as it is.

use std::fmt::Display;
use std::io::Write;

use skerry_sync::AccountEvent;

/// A JSON object being written: knows whether a comma is due.
pub(crate) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    /// Begins an object at the end of `out`.
    pub(crate) fn begin(out: &'a mut Vec<u8>) -> Object<'a> {
        out.push(b'{');
        Object { out, empty: true }
    }

    /// Writes a name; its value is to be appended to what is returned.
    pub(crate) fn key(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        string(name, self.out);
        self.out.push(b':');
        self.out
    }

    /// A member that is JSON already.
    pub(crate) fn raw(&mut self, name: &str, json: &[u8]) {
        self.key(name).extend_from_slice(json);
    }

    /// A member that is a number or a boolean.
    pub(crate) fn plain(&mut self, name: &str, value: impl Display) {
        plain(value, self.key(name));
    }

    /// A member that is a list of strings.
    pub(crate) fn strings<T: AsRef<str>>(&mut self, name: &str, values: &[T]) {
        list(values, self.key(name), |value, out| {
            string(value.as_ref(), out)
        });
    }

    /// A member that is an object, written by `fill`.
    pub(crate) fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
        let mut inner = Object::begin(self.key(name));
        fill(&mut inner);
        inner.end();
    }

    /// Closes it.
    pub(crate) fn end(self) {
        self.out.push(b'}');
    }
}

/// Writes the member `events` of a section: account data.
pub(crate) fn account_events(section: &mut Object<'_>, events: &[AccountEvent]) {
    list(events, section.key("events"), account_event);
}

/// Writes a piece of account data.
pub(crate) fn account_event(event: &AccountEvent, out: &mut Vec<u8>) {
    let mut object = Object::begin(out);
    object.raw("content", event.content.as_bytes());
    string(&event.kind, object.key("type"));
    object.end();
}

/// Writes a list.
pub(crate) fn list<T>(items: &[T], out: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

/// Writes a string.
pub(crate) fn string(text: &str, out: &mut Vec<u8>) {
    skerry_core::canonical::write_string_bytes(text, out);
}

fn plain(value: impl Display, out: &mut Vec<u8>) {
    // cannot fail: writing to a vector never does
    let _ = write!(out, "{value}");
}
