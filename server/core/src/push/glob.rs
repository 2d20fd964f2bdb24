//! Patterns with `*` (any characters) and `?` (one character). Both sides come in lower case.

/// Whether the whole text matches.
pub fn matches(pattern: &str, text: &str) -> bool {
    if !pattern.contains(['*', '?']) {
        return pattern == text;
    }
    let mut pattern_rest = pattern.chars();
    let mut text_rest = text.chars();
    // Where to go on after the last star, should the rest not fit.
    let mut retry = None;
    loop {
        let mut pattern_next = pattern_rest.clone();
        let wanted = pattern_next.next();
        if wanted == Some('*') {
            pattern_rest = pattern_next;
            retry = Some((pattern_rest.clone(), text_rest.clone()));
            continue;
        }
        let mut text_next = text_rest.clone();
        match (wanted, text_next.next()) {
            (None, None) => return true,
            (Some(p), Some(t)) if p == '?' || p == t => {
                pattern_rest = pattern_next;
                text_rest = text_next;
            }
            _ => {
                // Let the last star take one character more.
                let Some((after_star, from)) = &mut retry else {
                    return false;
                };
                if from.next().is_none() {
                    return false;
                }
                pattern_rest = after_star.clone();
                text_rest = from.clone();
            }
        }
    }
}

fn is_word(c: Option<char>) -> bool {
    c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether the text can be cut between these characters: not within a word.
fn is_boundary(before: Option<char>, after: Option<char>) -> bool {
    !(is_word(before) && is_word(after))
}

/// Whether this stands somewhere in the text, not as part of a longer word.
pub(super) fn contains_word(word: &str, text: &str) -> bool {
    let Some(first) = word.chars().next() else {
        return text.is_empty();
    };
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| rest.find(word)) {
        let (start, end) = (from + found, from + found + word.len());
        let (before, after) = (text.get(..start), text.get(end..));
        let ends = |s: Option<&str>| s.and_then(|s| s.chars().next_back());
        let starts = |s: Option<&str>| s.and_then(|s| s.chars().next());
        if is_boundary(ends(before), Some(first))
            && is_boundary(word.chars().next_back(), starts(after))
        {
            return true;
        }
        from = start + first.len_utf8();
    }
    false
}

/// Whether the pattern matches a part of the text that starts and ends at word boundaries.
pub(super) fn matches_words(pattern: &str, text: &str) -> bool {
    if !pattern.contains(['*', '?']) {
        return contains_word(pattern, text);
    }
    let pattern: Vec<char> = pattern.chars().collect();
    // All the places in the pattern that some part of the text read so far leads to.
    let mut places = vec![false; pattern.len() + 1];
    let mut next_places = places.clone();
    let mut before = None;
    let mut rest = text.chars();
    loop {
        let after = rest.next();
        if is_boundary(before, after) {
            set(&mut places, 0);
        }
        for (i, &p) in pattern.iter().enumerate() {
            // A star may stand for nothing.
            if p == '*' && places.get(i) == Some(&true) {
                set(&mut places, i + 1);
            }
        }
        if places.last() == Some(&true) && is_boundary(before, after) {
            return true;
        }
        let Some(c) = after else { return false };
        next_places.fill(false);
        for (i, &p) in pattern.iter().enumerate() {
            if places.get(i) == Some(&true) {
                match p {
                    '*' => set(&mut next_places, i),
                    _ if p == '?' || p == c => set(&mut next_places, i + 1),
                    _ => {}
                }
            }
        }
        std::mem::swap(&mut places, &mut next_places);
        before = after;
    }
}

fn set(places: &mut [bool], i: usize) {
    if let Some(place) = places.get_mut(i) {
        *place = true;
    }
}
