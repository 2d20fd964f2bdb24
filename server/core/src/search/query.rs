//! What a search asks for: words of which all have to be there, `-word` that must not, `"several
//! words"` side by side, `or` between alternatives, `word*` for beginnings.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::{cut, is_paired, pairs, plain, runs};
use crate::fold::{fold, words};

/// The most terms that a search looks up.
const MAX_TERMS: usize = 32;
/// Of a longer search, only so many bytes are looked at.
const MAX_BYTES: usize = 1_024;
/// Pieces of results that are named as matching.
const MAX_HIGHLIGHTS: usize = 100;

/// A search: it finds what any of its alternatives finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The alternatives.
    pub any: Vec<Conjunction>,
}

/// What has to be in a text, and what must not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conjunction {
    /// All of these; never empty in a [`Query`].
    pub all: Vec<Unit>,
    /// None of these.
    pub none: Vec<Unit>,
}

/// A word or a phrase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Terms that a text with it has.
    pub terms: Vec<Term>,
    /// Terms alone do not tell: the text has to say exactly this. Folded, with one blank
    /// between words.
    pub exact: Option<String>,
}

/// A term to look up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term {
    /// The term, or how it begins.
    pub text: String,
    /// Whether any term is meant that begins so.
    pub prefix: bool,
}

impl Query {
    /// Reads a search. One without words finds nothing.
    #[must_use]
    pub fn parse(text: &str) -> Query {
        let mut end = text.len().min(MAX_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut query = Query {
            any: vec![Conjunction::default()],
        };
        let mut left = MAX_TERMS;
        for piece in pieces(text.get(..end).unwrap_or_default()) {
            match piece {
                Piece::Or => query.any.push(Conjunction::default()),
                Piece::Unit { text, phrase, not } => query.take(text, phrase, not, &mut left),
            }
        }
        query.any.retain(|some| !some.all.is_empty());
        query
    }

    fn take(&mut self, text: &str, phrase: bool, not: bool, left: &mut usize) {
        let (Some(mut unit), Some(some)) = (Unit::read(text, phrase), self.any.last_mut()) else {
            return;
        };
        if unit.exact.is_some() {
            // What the others would tell, the text does.
            unit.terms.truncate((*left).max(1));
        }
        let Some(rest) = left.checked_sub(unit.terms.len()) else {
            return;
        };
        *left = rest;
        let list = if not { &mut some.none } else { &mut some.all };
        if !list.contains(&unit) {
            list.push(unit);
        }
    }

    /// Whether a text that has the terms asked for is found. Only to be asked where
    /// [`Self::needs_text`].
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let plain = plain(text);
        let mut has = BTreeSet::new();
        super::terms(text, |term| {
            has.insert(term.to_owned());
        });
        let says = |unit: &Unit| {
            unit.terms.iter().all(|term| term.is_among(&has))
                && unit
                    .exact
                    .as_deref()
                    .is_none_or(|exact| says(&plain, exact))
        };
        self.any
            .iter()
            .any(|some| some.all.iter().all(says) && !some.none.iter().any(says))
    }

    /// Whether the terms of a text do not tell whether it is found.
    #[must_use]
    pub fn needs_text(&self) -> bool {
        self.any.iter().any(|some| {
            let mut units = some.all.iter().chain(&some.none);
            units.any(|unit| unit.exact.is_some())
        })
    }

    /// Adds the pieces of a text that were searched for, as they are written there.
    pub fn highlight(&self, text: &str, into: &mut BTreeSet<String>) {
        let units = || self.any.iter().flat_map(|some| &some.all);
        let wanted: Vec<&Term> = units().flat_map(|unit| &unit.terms).collect();
        let separates = |c: char| words(c.encode_utf8(&mut [0; 4])).next().is_none();
        for piece in text.split(separates) {
            if piece.is_empty() || into.len() >= MAX_HIGHLIGHTS {
                continue;
            }
            let folded = fold(piece);
            for (paired, run) in words(&folded).flat_map(runs) {
                if !paired && wanted.iter().any(|term| term.is(cut(run))) {
                    into.insert(piece.to_lowercase());
                }
                let found = |term: &&&Term| run.contains(term.text.as_str());
                if paired {
                    into.extend(wanted.iter().filter(found).map(|term| term.text.clone()));
                }
            }
        }
    }
}

impl Term {
    fn is(&self, term: &str) -> bool {
        self.text == term || self.prefix && term.starts_with(&self.text)
    }

    fn is_among(&self, terms: &BTreeSet<String>) -> bool {
        let from = (Bound::Included(self.text.as_str()), Bound::Unbounded);
        let first = terms.range::<str, _>(from).next();
        first.is_some_and(|term| self.is(term))
    }
}

impl Unit {
    fn read(text: &str, phrase: bool) -> Option<Unit> {
        let prefix = !phrase && text.ends_with('*');
        let (mut terms, mut joined) = (Vec::new(), false);
        let mut add = |text: &str, prefix: bool| {
            let text = cut(text).to_owned();
            terms.push(Term { text, prefix });
        };
        let folded = fold(text);
        let mut count = 0;
        for (paired, run) in words(&folded).flat_map(runs) {
            count += 1;
            let letters = run.chars().count();
            match (paired, letters) {
                (false, _) => add(run, false),
                // Any term that begins with the letter, since no letter is a term unless last.
                (true, 1) => add(run, true),
                (true, _) => {
                    joined |= letters > 2;
                    pairs(run, false, &mut |pair| add(pair, false));
                }
            }
        }
        if let Some(last) = terms.last_mut().filter(|_| prefix) {
            last.prefix |= !last.text.ends_with(is_paired);
        }
        terms.dedup();
        let exact = (joined || phrase && count > 1).then(|| plain(text));
        (!terms.is_empty()).then_some(Unit { terms, exact })
    }
}

/// Whether words stand side by side in a text, both in the form of [`plain`]. Where letters are
/// taken in pairs, words have no bounds.
fn says(text: &str, exact: &str) -> bool {
    let free = |c: Option<char>| c.is_none_or(|c| c == ' ' || is_paired(c));
    let begins_free = exact.chars().next().is_some_and(is_paired);
    let ends_free = exact.chars().next_back().is_some_and(is_paired);
    text.match_indices(exact).any(|(at, _)| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        let after = text.get(at + exact.len()..);
        let after = after.and_then(|text| text.chars().next());
        (begins_free || free(before)) && (ends_free || free(after))
    })
}

/// A piece of what was typed.
enum Piece<'a> {
    Or,
    Unit {
        text: &'a str,
        phrase: bool,
        not: bool,
    },
}

/// Cuts what was typed at blanks and quotation marks.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut not = false;
    for (at, part) in text.split('"').enumerate() {
        if at % 2 == 1 {
            found.push(Piece::Unit {
                text: part,
                phrase: true,
                not: std::mem::take(&mut not),
            });
            continue;
        }
        for word in part.split_whitespace() {
            let bare = word.strip_prefix('-');
            match bare {
                // Stands before a phrase.
                Some("") => not = true,
                Some(bare) => found.push(word_of(bare, true)),
                None if word.eq_ignore_ascii_case("or") => found.push(Piece::Or),
                None => found.push(word_of(word, false)),
            }
        }
        not &= part.ends_with('-');
    }
    found
}

fn word_of(text: &str, not: bool) -> Piece<'_> {
    let phrase = false;
    Piece::Unit { text, phrase, not }
}
