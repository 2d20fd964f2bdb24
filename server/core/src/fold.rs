//! Text folded for comparing and searching: what people type finds what others wrote.
//!
//! Folded are case, compatible forms (full-width letters, ligatures), the marks of Latin, Greek
//! and Cyrillic letters (`ä` is found by `a`), some letters that only look like marked ones (`ø`,
//! `ł`, `ß`), and katakana to hiragana. Marks that make another letter (Japanese voicing, vowels
//! of Indic scripts) stay.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::canonical_combining_class;

/// The folded form of a text. Folding it again changes nothing.
#[must_use]
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let bare = text
        .nfkd()
        .filter(|c| !is_mark(*c))
        .flat_map(char::to_lowercase);
    let mut out = String::with_capacity(text.len());
    // Lower case can bring a mark of its own (of İ); the second turn takes it away.
    for c in bare.nfkd().filter(|c| !is_mark(*c)) {
        match plain(c) {
            Some(letters) => out.push_str(letters),
            None => out.push(hiragana(c)),
        }
    }
    out.nfc().collect()
}

/// The words of a folded text: runs of letters and digits.
pub fn words(folded: &str) -> impl Iterator<Item = &str> {
    folded
        .split(|c: char| !(c.is_alphanumeric() || canonical_combining_class(c) != 0))
        .filter(|word| !word.is_empty())
}

/// Whether a letter is of a script that is written without spaces between words, so that a word
/// may begin at any of them.
#[must_use]
pub fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{0e00}'..='\u{0eff}'
        | '\u{1000}'..='\u{109f}'
        | '\u{1780}'..='\u{17ff}'
        | '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}')
}

/// Marks that fold away: the blocks of combining marks that European scripts use.
fn is_mark(c: char) -> bool {
    matches!(c,
        '\u{0300}'..='\u{036f}'
        | '\u{1ab0}'..='\u{1aff}'
        | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{fe20}'..='\u{fe2f}')
}

/// Letters that do not decompose, although people type them plain.
fn plain(c: char) -> Option<&'static str> {
    Some(match c {
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'ø' => "o",
        'đ' | 'ð' => "d",
        'ł' => "l",
        'ħ' => "h",
        'ı' => "i",
        'þ' => "th",
        'ς' => "σ",
        _ => return None,
    })
}

fn hiragana(c: char) -> char {
    match c {
        '\u{30a1}'..='\u{30f6}' => char::from_u32(u32::from(c) - 0x60).unwrap_or(c),
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::{fold, words};

    #[test]
    fn what_is_typed_finds_what_was_written() {
        for (written, typed) in [
            ("Jörg Müller", "jorg muller"),
            ("STRASSE", "straße"),
            ("Łukasz", "lukasz"),
            ("Ｆｕｌｌ", "full"),
            ("Ёлка", "елка"),
            ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
            ("ｶﾞﾝﾀﾞﾑ", "がんだむ"),
            ("カタカナ", "かたかな"),
            ("İstanbul", "istanbul"),
            ("한국어", "한국어"),
        ] {
            assert_eq!(fold(written), fold(typed), "{written}");
        }
        assert_ne!(fold("か"), fold("が"));
    }

    #[test]
    fn words_are_runs_of_letters_and_digits() {
        let folded = fold("@jörg_m:example.org (Büro 2)");
        let found: Vec<&str> = words(&folded).collect();
        assert_eq!(found, ["jorg", "m", "example", "org", "buro", "2"]);
        assert_eq!(words(&fold("नमस्ते दुनिया")).count(), 2);
    }

    proptest! {
        #[test]
        fn folding_twice_changes_nothing(text in "\\PC{0,40}") {
            let once = fold(&text);
            prop_assert_eq!(fold(&once), once);
        }
    }
}
