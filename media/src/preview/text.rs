//! Pieces of text that are shown.

/// The longest value in a preview, in bytes.
pub const VALUE_MAX: usize = 1000;
/// The longest description made of a page's text, in bytes.
pub const DESCRIPTION_MAX: usize = 500;

/// The beginning of a text, at most so many bytes.
pub fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.split_at(end).0
}

/// The same, ended at a word, with an ellipsis where something is missing.
pub fn cut_at_word(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let piece = cut(text, max);
    let piece = piece
        .rsplit_once(char::is_whitespace)
        .map_or(piece, |(before, _)| before);
    format!("{}…", piece.trim_end())
}

/// A text with every run of white space made one space.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}
