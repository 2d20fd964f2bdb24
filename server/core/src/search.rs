//! Full-text search: the terms that a text is found by, and what a search asks for.
//!
//! A text is folded ([`crate::fold`]) and cut into words. Scripts that are written without
//! spaces have no words to cut, and Korean words carry their endings: there every two letters
//! that stand side by side are a term, and so is the last letter of a run. One letter is then
//! found as the beginning of a term, and two or more as the pairs they are made of.

mod query;
#[cfg(test)]
mod tests;

pub use query::{Conjunction, Query, Term, Unit};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::StoredEvent;
use crate::fold::{fold, is_unspaced, words};

/// Longest term, in bytes; what is longer is cut.
const MAX_TERM_BYTES: usize = 64;
/// Terms of one text that are looked at; a text of 64 KiB has about ten thousand words.
const MAX_TERMS: usize = 20_000;

/// Which member of an event's content a text is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// `content.body` of a message.
    Body,
    /// `content.name` of a room name.
    Name,
    /// `content.topic` of a topic.
    Topic,
}

impl Key {
    /// A key by its name in the protocol.
    #[must_use]
    pub fn named(name: &str) -> Option<Key> {
        match name {
            "content.body" => Some(Key::Body),
            "content.name" => Some(Key::Name),
            "content.topic" => Some(Key::Topic),
            _ => None,
        }
    }
}

/// What an event can be found by: its text and where that stands. `None` for events without, as
/// encrypted and redacted ones are.
#[must_use]
pub fn text_of(event: &StoredEvent) -> Option<(Key, String)> {
    #[derive(Deserialize)]
    struct Content<'a> {
        #[serde(borrow)]
        body: Option<&'a RawValue>,
        #[serde(borrow)]
        name: Option<&'a RawValue>,
        #[serde(borrow)]
        topic: Option<&'a RawValue>,
    }
    let key = match (event.event_type(), event.is_state()) {
        ("m.room.message", false) => Key::Body,
        ("m.room.name", true) => Key::Name,
        ("m.room.topic", true) => Key::Topic,
        _ => return None,
    };
    let content: Content<'_> = serde_json::from_str(event.content()).ok()?;
    let text = match key {
        Key::Body => content.body,
        Key::Name => content.name,
        Key::Topic => content.topic,
    };
    let text: String = serde_json::from_str(text?.get()).ok()?;
    (!text.is_empty()).then_some((key, text))
}

/// Gives each term of a text, as often as it stands there.
pub fn terms(text: &str, mut each: impl FnMut(&str)) {
    let mut left = MAX_TERMS;
    let mut each = |term: &str| {
        left = left.saturating_sub(1);
        if left > 0 {
            each(cut(term));
        }
    };
    for word in words(&fold(text)) {
        for (paired, run) in runs(word) {
            if paired {
                pairs(run, true, &mut each);
            } else {
                each(run);
            }
        }
    }
}

/// A text as what it says, for comparing: its words, folded, with one blank between them.
#[must_use]
pub(crate) fn plain(text: &str) -> String {
    let folded = fold(text);
    let mut out = String::with_capacity(folded.len());
    for word in words(&folded) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// Whether letters are taken in pairs.
fn is_paired(c: char) -> bool {
    is_unspaced(c) || ('\u{ac00}'..='\u{d7a3}').contains(&c)
}

/// The runs of a word that are taken in pairs (true) or whole.
fn runs(word: &str) -> impl Iterator<Item = (bool, &str)> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let paired = is_paired(rest.chars().next()?);
        let end = rest.find(|c| is_paired(c) != paired).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        rest = after;
        Some((paired, run))
    })
}

/// The pairs of a run, and with `last` its last letter.
fn pairs(run: &str, last: bool, each: &mut impl FnMut(&str)) {
    let mut starts = run.char_indices().map(|(at, _)| at).peekable();
    while let Some(start) = starts.next() {
        let end = match starts.peek() {
            Some(next) => {
                let after = run.get(*next..).and_then(|rest| rest.chars().next());
                next + after.map_or(0, char::len_utf8)
            }
            None if last => run.len(),
            None => return,
        };
        each(run.get(start..end).unwrap_or_default());
    }
}

fn cut(term: &str) -> &str {
    let mut end = term.len().min(MAX_TERM_BYTES);
    while !term.is_char_boundary(end) {
        end -= 1;
    }
    term.get(..end).unwrap_or_default()
}
