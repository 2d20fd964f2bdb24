//! What a page says of itself, and what its text says where it says nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{
    BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts,
};

use super::text::{VALUE_MAX, cut, one_line};

/// How much of a page goes to the tokenizer at once, in bytes. If nothing at all comes out of two
/// such pieces, the page is not read on: attributes without end cost the square of their number.
const PIECE: usize = 16 * 1024;
/// Properties of one page that are kept.
const PROPERTIES_MAX: usize = 64;
/// The longest name of one.
const NAME_MAX: usize = 64;
/// The longest URL that is looked at, in bytes.
const URL_MAX: usize = 4096;
/// How much text is enough for a description, and how much is collected at most, in bytes.
const TEXT_ENOUGH: usize = 200;
const TEXT_MAX: usize = 2000;
/// Pictures with a side shorter than this are decoration, in pixels.
const PICTURE_MIN: u32 = 16;

/// What was found in a page.
#[derive(Debug, Default)]
pub struct Page {
    /// `og:` and `twitter:` properties and the plain `description`; the first of each name.
    pub properties: BTreeMap<String, String>,
    /// `<title>`.
    pub title: String,
    /// The first `<h1>`.
    pub heading: String,
    /// The beginning of the text, without navigation and the like.
    pub text: String,
    /// The first picture that is not tiny.
    pub picture: Option<String>,
    /// Where oEmbed is found (JSON).
    pub oembed: Option<String>,
    /// What relative URLs are relative to.
    pub base: Option<String>,
}

/// Reads a page.
#[must_use]
pub fn read(html: &str) -> Page {
    let tokenizer = Tokenizer::new(Reader::default(), TokenizerOpts::default());
    let queue = BufferQueue::default();
    let mut rest = html;
    let mut silent = 0;
    while !rest.is_empty() && silent < 2 {
        let mut end = rest.len().min(PIECE);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, later) = rest.split_at(end);
        rest = later;
        queue.push_back(StrTendril::from(piece));
        let before = tokenizer.sink.0.borrow().tokens;
        let _ = tokenizer.feed(&queue);
        let heard = tokenizer.sink.0.borrow().tokens != before;
        silent = if heard { 0 } else { silent + 1 };
    }
    if rest.is_empty() {
        tokenizer.end();
    }
    tokenizer.sink.0.into_inner().finished()
}

#[derive(Default)]
struct Reader(RefCell<State>);

#[derive(Default)]
struct State {
    page: Page,
    /// Tokens so far.
    tokens: u64,
    /// The element whose content is not text of the page, and how deep it is nested in itself.
    skipped: Option<(String, usize)>,
    /// What the text that comes now belongs to.
    inside: Inside,
    /// The paragraph that is being read.
    paragraph: String,
}

#[derive(Default, PartialEq, Eq, Clone, Copy)]
enum Inside {
    #[default]
    Text,
    Title,
    Heading,
}

impl TokenSink for Reader {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut state = self.0.borrow_mut();
        state.tokens += 1;
        match token {
            Token::TagToken(tag) if tag.kind == TagKind::StartTag => {
                state.opened(&tag);
                raw(&tag.name).map_or(TokenSinkResult::Continue, TokenSinkResult::RawData)
            }
            Token::TagToken(tag) => {
                state.closed(&tag.name);
                TokenSinkResult::Continue
            }
            Token::CharacterTokens(text) => {
                state.text(&text);
                TokenSinkResult::Continue
            }
            _ => TokenSinkResult::Continue,
        }
    }
}

/// Elements in which tags are text (HTML, 13.2.6.4).
fn raw(name: &str) -> Option<RawKind> {
    match name {
        "script" => Some(RawKind::ScriptData),
        "style" | "xmp" | "iframe" | "noembed" | "noframes" => Some(RawKind::Rawtext),
        "title" | "textarea" => Some(RawKind::Rcdata),
        _ => None,
    }
}

/// Elements whose content says nothing about the page.
fn is_skipped(name: &str) -> bool {
    matches!(
        name,
        "script"
            | "style"
            | "xmp"
            | "iframe"
            | "noembed"
            | "noframes"
            | "textarea"
            | "svg"
            | "noscript"
            | "template"
            | "nav"
            | "header"
            | "footer"
            | "aside"
            | "form"
            | "button"
            | "select"
            | "canvas"
            | "object"
            | "picture"
            | "video"
            | "audio"
    )
}

/// Elements that stand within a line.
fn is_inline(name: &str) -> bool {
    matches!(
        name,
        "a" | "abbr"
            | "b"
            | "bdi"
            | "bdo"
            | "cite"
            | "code"
            | "em"
            | "font"
            | "i"
            | "img"
            | "kbd"
            | "mark"
            | "q"
            | "s"
            | "samp"
            | "small"
            | "span"
            | "strong"
            | "sub"
            | "sup"
            | "time"
            | "u"
            | "var"
            | "wbr"
    )
}

fn attribute<'a>(tag: &'a Tag, name: &str) -> Option<&'a str> {
    let named = |a: &&html5ever::Attribute| &*a.name.local == name;
    tag.attrs.iter().find(named).map(|a| a.value.trim())
}

fn url_of(tag: &Tag, name: &str) -> Option<String> {
    attribute(tag, name)
        .filter(|url| !url.is_empty() && url.len() <= URL_MAX && !url.starts_with("data:"))
        .map(str::to_owned)
}

impl State {
    fn opened(&mut self, tag: &Tag) {
        let name: &str = &tag.name;
        if let Some((skipped, depth)) = &mut self.skipped {
            if skipped == name && !tag.self_closing {
                *depth += 1;
            }
            if name == "img" && skipped == "picture" {
                self.picture(tag);
            }
            return;
        }
        if !is_inline(name) {
            self.paragraph_ends();
        }
        match name {
            "meta" => self.meta(tag),
            "link" => self.link(tag),
            "base" if self.page.base.is_none() => self.page.base = url_of(tag, "href"),
            "img" => self.picture(tag),
            "title" if self.page.title.is_empty() => self.inside = Inside::Title,
            "h1" if self.page.heading.is_empty() => self.inside = Inside::Heading,
            // The title of a drawing, not of the page.
            "title" => self.skipped = Some((name.to_owned(), 1)),
            _ if is_skipped(name) && !tag.self_closing => {
                self.skipped = Some((name.to_owned(), 1));
            }
            _ => {}
        }
    }

    fn closed(&mut self, name: &str) {
        if let Some((skipped, depth)) = &mut self.skipped {
            if skipped == name {
                *depth -= 1;
                if *depth == 0 {
                    self.skipped = None;
                }
            }
            return;
        }
        if matches!(name, "title" | "h1") {
            self.inside = Inside::Text;
        }
        if !is_inline(name) {
            self.paragraph_ends();
        }
    }

    fn text(&mut self, text: &str) {
        if self.skipped.is_some() {
            return;
        }
        let (target, max) = match self.inside {
            Inside::Title => (&mut self.page.title, VALUE_MAX),
            Inside::Heading => (&mut self.page.heading, VALUE_MAX),
            Inside::Text if self.page.text.len() < TEXT_ENOUGH => (&mut self.paragraph, TEXT_MAX),
            Inside::Text => return,
        };
        let room = max.saturating_sub(target.len());
        target.push_str(cut(text, room));
    }

    fn paragraph_ends(&mut self) {
        let paragraph = one_line(&std::mem::take(&mut self.paragraph));
        if paragraph.is_empty() || self.page.text.len() >= TEXT_ENOUGH {
            return;
        }
        if !self.page.text.is_empty() {
            self.page.text.push('\n');
        }
        self.page.text.push_str(&paragraph);
    }

    fn meta(&mut self, tag: &Tag) {
        let name = attribute(tag, "property").or_else(|| attribute(tag, "name"));
        let (Some(name), Some(content)) = (name, attribute(tag, "content")) else {
            return;
        };
        let name = name.to_ascii_lowercase();
        let wanted =
            name.starts_with("og:") || name.starts_with("twitter:") || name == "description";
        let full = self.page.properties.len() >= PROPERTIES_MAX;
        if !wanted || full || content.is_empty() || name.len() > NAME_MAX {
            return;
        }
        let value = cut(content, URL_MAX).to_owned();
        self.page.properties.entry(name).or_insert(value);
    }

    fn link(&mut self, tag: &Tag) {
        let rel = attribute(tag, "rel").unwrap_or_default();
        let is = |word: &str| {
            rel.split_ascii_whitespace()
                .any(|r| r.eq_ignore_ascii_case(word))
        };
        let kind = attribute(tag, "type").unwrap_or_default();
        if is("image_src") && self.page.picture.is_none() {
            self.page.picture = url_of(tag, "href");
        }
        let json = kind.eq_ignore_ascii_case("application/json+oembed");
        if is("alternate") && json && self.page.oembed.is_none() {
            self.page.oembed = url_of(tag, "href");
        }
    }

    fn picture(&mut self, tag: &Tag) {
        let side = |name: &str| attribute(tag, name).and_then(|n| n.parse::<u32>().ok());
        let tiny = |name: &str| side(name).is_some_and(|pixels| pixels < PICTURE_MIN);
        if self.page.picture.is_none() && !tiny("width") && !tiny("height") {
            self.page.picture = url_of(tag, "src");
        }
    }

    fn finished(mut self) -> Page {
        self.paragraph_ends();
        self.page.title = one_line(&self.page.title);
        self.page.heading = one_line(&self.page.heading);
        self.page
    }
}
