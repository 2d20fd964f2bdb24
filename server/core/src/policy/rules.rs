//! What the operator of a policy server writes down: whom and what it does not recommend.

use std::collections::{HashMap, HashSet};

use crate::StoredEvent;
use crate::canonical::{Object, Value};
use crate::fold::{fold, is_unspaced, words};
use crate::hash::decode_base64;
use crate::names::server_of;
use crate::push::glob_matches;

/// Most media that an event may name where media is looked at.
pub const MAX_MEDIA: usize = 20;

/// The lists, as they are written.
#[derive(Clone, Debug, Default)]
pub struct RuleLists {
    /// User ids, with `*` and `?`.
    pub senders: Vec<String>,
    /// Server names, with `*` and `?`; ports do not count.
    pub servers: Vec<String>,
    /// Event types, with `*` and `?`.
    pub types: Vec<String>,
    /// Words, and words side by side.
    pub words: Vec<String>,
    /// Hashes of files: SHA-256 or BLAKE3.
    pub media: Vec<[u8; 32]>,
}

/// Whom and what a policy server does not recommend.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    senders: Vec<String>,
    servers: Vec<String>,
    types: Vec<String>,
    /// Runs of folded words, by their first one.
    phrases: HashMap<String, Vec<Vec<String>>>,
    /// Folded texts of scripts that put no spaces between words: found anywhere.
    unspaced: Vec<String>,
    media: HashSet<[u8; 32]>,
}

/// Why an event is not recommended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grounds {
    /// Its sender.
    Sender,
    /// Its sender's server.
    Server,
    /// Its type.
    Type,
    /// What it says.
    Words,
    /// A file that it names.
    Media,
    /// It names more files than are looked at.
    TooManyMedia,
}

impl Grounds {
    /// In words for the sender. Which of the operator's entries it was is not said.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Grounds::Sender => "The policy of this room does not allow this user's events",
            Grounds::Server => "The policy of this room does not allow this server's events",
            Grounds::Type => "The policy of this room does not allow events of this type",
            Grounds::Words => "The policy of this room does not allow what this event says",
            Grounds::Media => "The policy of this room does not allow a file of this event",
            Grounds::TooManyMedia => "The policy of this room does not allow so many files at once",
        }
    }
}

impl Rules {
    /// From the lists.
    #[must_use]
    pub fn new(lists: RuleLists) -> Rules {
        let servers = lists.servers.iter().map(|name| name.to_ascii_lowercase());
        let mut rules = Rules {
            servers: servers.collect(),
            senders: lists.senders,
            types: lists.types,
            media: lists.media.into_iter().collect(),
            ..Rules::default()
        };
        for entry in lists.words {
            rules.add_words(&fold(&entry));
        }
        rules
    }

    fn add_words(&mut self, folded: &str) {
        if folded.contains(is_unspaced) {
            self.unspaced.push(folded.trim().to_owned());
            return;
        }
        let phrase: Vec<String> = words(folded).map(str::to_owned).collect();
        if let Some(first) = phrase.first() {
            self.phrases.entry(first.clone()).or_default().push(phrase);
        }
    }

    /// Whether files are looked at.
    #[must_use]
    pub fn look_at_media(&self) -> bool {
        !self.media.is_empty()
    }

    /// Why an event is not recommended, as far as that can be seen from itself.
    #[must_use]
    pub fn refuse(&self, event: &StoredEvent) -> Option<Grounds> {
        let named = |names: &[String], name: &str| names.iter().any(|n| glob_matches(n, name));
        let sender = event.sender();
        let server = server_of(sender).unwrap_or_default().to_ascii_lowercase();
        if named(&self.senders, sender) {
            return Some(Grounds::Sender);
        }
        if named(&self.servers, without_port(&server)) {
            return Some(Grounds::Server);
        }
        if named(&self.types, event.event_type()) {
            return Some(Grounds::Type);
        }
        // Content that cannot be read is none that could be recommended.
        let Ok(content) = event.content_object() else {
            return Some(Grounds::Words);
        };
        let mut texts = Vec::new();
        strings(&content, &mut texts);
        if self.looks_at_words() && texts.iter().any(|(_, text)| self.says(text)) {
            return Some(Grounds::Words);
        }
        let hashes = texts.iter().filter(|(name, _)| *name == "sha256");
        let mut hashes = hashes.filter_map(|(_, hash)| decode_base64(hash)?.try_into().ok());
        hashes
            .any(|hash: [u8; 32]| self.media.contains(&hash))
            .then_some(Grounds::Media)
    }

    /// Whether a file with one of these hashes is not to be named.
    #[must_use]
    pub fn refuse_file(&self, hashes: &[[u8; 32]]) -> Option<Grounds> {
        let listed = hashes.iter().any(|hash| self.media.contains(hash));
        listed.then_some(Grounds::Media)
    }

    /// The files to be looked at before an event is recommended, as `mxc://` addresses.
    ///
    /// # Errors
    /// They are too many.
    pub fn files_of(&self, event: &StoredEvent) -> Result<Vec<String>, Grounds> {
        if !self.look_at_media() {
            return Ok(Vec::new());
        }
        let files = media_in(&event.content_object().unwrap_or_default());
        match files.len() > MAX_MEDIA {
            true => Err(Grounds::TooManyMedia),
            false => Ok(files),
        }
    }

    fn looks_at_words(&self) -> bool {
        !self.phrases.is_empty() || !self.unspaced.is_empty()
    }

    fn says(&self, text: &str) -> bool {
        let folded = fold(text);
        if self.unspaced.iter().any(|entry| folded.contains(entry)) {
            return true;
        }
        let said: Vec<&str> = words(&folded).collect();
        (0..said.len()).any(|at| {
            let rest = said.get(at..).unwrap_or_default();
            let first = rest.first().and_then(|first| self.phrases.get(*first));
            first.into_iter().flatten().any(|phrase| {
                phrase.len() <= rest.len() && phrase.iter().zip(rest).all(|(a, b)| a == b)
            })
        })
    }
}

/// The `mxc://` addresses that an event names, each once; no more than [`MAX_MEDIA`] and one.
fn media_in(content: &Object) -> Vec<String> {
    let mut texts = Vec::new();
    strings(content, &mut texts);
    let mut found: Vec<String> = Vec::new();
    for (_, text) in texts {
        for (at, _) in text.match_indices("mxc://") {
            let rest = text.get(at..).unwrap_or_default();
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.:/[]".contains(c)));
            let mxc = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            if found.len() <= MAX_MEDIA && !found.iter().any(|one| one == mxc) {
                found.push(mxc.to_owned());
            }
        }
    }
    found
}

/// All strings of an object, each with the name of its field (that of the list, in lists). As
/// deep as JSON is read at all, which is bounded.
fn strings<'a>(object: &'a Object, out: &mut Vec<(&'a str, &'a str)>) {
    fn of_value<'a>(name: &'a str, value: &'a Value, out: &mut Vec<(&'a str, &'a str)>) {
        match value {
            Value::Str(text) => out.push((name, text)),
            Value::Array(items) => items.iter().for_each(|item| of_value(name, item, out)),
            Value::Object(object) => strings(object, out),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Number(_) => {}
        }
    }
    for (name, value) in object.iter() {
        of_value(name, value, out);
    }
}

/// A server name without its port.
fn without_port(server: &str) -> &str {
    match server.rsplit_once(':') {
        // The colons of an address in brackets are its own.
        Some((host, port)) if !port.contains(']') => host,
        _ => server,
    }
}
