//! Which ids belong to an application service: lists of regular expressions.

use regex::bytes::{RegexSet, RegexSetBuilder};

/// Longest expression, in bytes.
const PATTERN_BYTES_MAX: usize = 1_024;
/// Most expressions in one list.
const PATTERNS_MAX: usize = 500;
/// How large the expressions of one list may become when compiled, in bytes.
const COMPILED_BYTES_MAX: usize = 4 << 20;

/// One entry of a list as the registration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) regex: String,
    pub(super) exclusive: bool,
}

/// Ids that belong to an application service, alone or with others.
#[derive(Clone, Debug)]
pub struct Namespace {
    all: RegexSet,
    exclusive: RegexSet,
}

impl Namespace {
    /// Compiles a list; `list` names it in what is said about a mistake.
    ///
    /// An expression has to fit from the beginning of an id on, not to its end: that is how
    /// registrations have always been read.
    pub(super) fn new(list: &str, patterns: &[Pattern]) -> Result<Namespace, String> {
        if patterns.len() > PATTERNS_MAX {
            return Err(format!("{list}: at most {PATTERNS_MAX} entries"));
        }
        for (at, pattern) in patterns.iter().enumerate() {
            if pattern.regex.len() > PATTERN_BYTES_MAX {
                let most = PATTERN_BYTES_MAX;
                return Err(format!("{list}[{at}].regex: longer than {most} bytes"));
            }
            // Each by itself first, so that a mistake can be given its place.
            compile([&pattern.regex]).map_err(|error| {
                let regex = &pattern.regex;
                format!("{list}[{at}].regex: {regex:?} cannot be used: {error}")
            })?;
        }
        let of = |list_of: Vec<&String>| compile(list_of).map_err(|why| format!("{list}: {why}"));
        let exclusive = patterns.iter().filter(|pattern| pattern.exclusive);
        Ok(Namespace {
            all: of(patterns.iter().map(|pattern| &pattern.regex).collect())?,
            exclusive: of(exclusive.map(|pattern| &pattern.regex).collect())?,
        })
    }

    /// Whether an id lies in it.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.all.is_match(id.as_bytes())
    }

    /// Whether an id lies in a part of it that nobody else may use.
    #[must_use]
    pub fn has_alone(&self, id: &str) -> bool {
        self.exclusive.is_match(id.as_bytes())
    }

    /// Whether nothing lies in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

fn compile<'a>(patterns: impl IntoIterator<Item = &'a String>) -> Result<RegexSet, String> {
    let anchored = patterns
        .into_iter()
        .map(|pattern| format!("^(?:{pattern})"));
    RegexSetBuilder::new(anchored)
        .unicode(false)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "it becomes too large when compiled".to_owned(),
            other => last_line(&other.to_string()),
        })
}

/// The reason alone: what stands before it is a drawing of where.
fn last_line(text: &str) -> String {
    let line = text.lines().last().unwrap_or(text).trim();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn namespace(patterns: &[(&str, bool)]) -> Result<Namespace, String> {
        let patterns: Vec<Pattern> = patterns
            .iter()
            .map(|(regex, exclusive)| Pattern {
                regex: (*regex).to_owned(),
                exclusive: *exclusive,
            })
            .collect();
        Namespace::new("users", &patterns)
    }

    #[test]
    fn fits_from_the_beginning() {
        let both = [(r"@irc_.*:a\.example", true), ("@bot|@bat", false)];
        let namespace = namespace(&both).unwrap();
        assert!(namespace.has("@irc_x:a.example"));
        assert!(namespace.has_alone("@irc_x:a.example"));
        assert!(!namespace.has("@my_irc_x:a.example"));
        assert!(!namespace.has("@irc_x:aXexample"));
        assert!(namespace.has("@bats:a.example"));
        assert!(!namespace.has("x@bat:a.example"));
        assert!(!namespace.has_alone("@bat:a.example"));
        assert!(namespace.has("@irc_ü:a.example"), "any byte will do");
    }

    #[test]
    fn mistakes_are_named() {
        let wrong = |regex: &str| namespace(&[("@a", false), (regex, true)]).unwrap_err();
        assert!(wrong("@(").starts_with("users[1].regex: \"@(\" cannot be used: "));
        assert!(wrong("(?!x)@a").contains("look-around"));
        assert!(wrong(&"x".repeat(2_000)).contains("longer than"));
        assert!(wrong("((a{100}){100}){100}").contains("too large"));
        let many = vec![("@a", false); 501];
        assert!(namespace(&many).unwrap_err().contains("at most"));
    }
}
