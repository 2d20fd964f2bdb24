//! The preview: what the page says of itself first, then what its neighbours say, then its text.

use serde_json::{Map, Value, json};

use super::page::Page;
use super::text::{DESCRIPTION_MAX, VALUE_MAX, cut, cut_at_word, one_line};

/// Names of Open Graph that say which picture it is, the best first.
const PICTURES: &[&str] = &["og:image:secure_url", "og:image", "og:image:url"];
/// What Twitter calls the same things.
const TWITTER: &[(&str, &str)] = &[
    ("og:title", "twitter:title"),
    ("og:description", "twitter:description"),
    ("og:image", "twitter:image"),
    ("og:image", "twitter:image:src"),
    ("og:image:alt", "twitter:image:alt"),
];
/// Members of an oEmbed answer (its specification, 2.3.4).
const OEMBED: &[(&str, &str)] = &[
    ("og:title", "title"),
    ("og:site_name", "provider_name"),
    ("og:article:author", "author_name"),
];

/// A preview in the making.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Card {
    /// `og:` members, without the picture.
    pub members: Map<String, Value>,
    /// The picture's URL, as it was written.
    pub picture: Option<String>,
}

impl Card {
    /// What Open Graph and Twitter's cards say.
    #[must_use]
    pub fn of_properties(page: &Page) -> Card {
        let mut found = page.properties.clone();
        for (name, twitter) in TWITTER {
            if let Some(value) = page.properties.get(*twitter) {
                found.entry((*name).to_owned()).or_insert(value.clone());
            }
        }
        let picture = PICTURES.iter().find_map(|name| found.get(*name)).cloned();
        let mut card = Card {
            picture,
            ..Card::default()
        };
        for (name, value) in found {
            // The picture's size and type are those of the picture that is found.
            let of_picture = name.starts_with("og:image") && name != "og:image:alt";
            if name.starts_with("og:") && !of_picture {
                card.add(&name, &value);
            }
        }
        card
    }

    /// Adds what is not there yet.
    fn add(&mut self, name: &str, value: &str) {
        let value = cut(value, VALUE_MAX).trim();
        if !value.is_empty() && !self.members.contains_key(name) {
            self.members.insert(name.to_owned(), json!(value));
        }
    }

    /// Adds what an oEmbed answer says.
    pub fn add_oembed(&mut self, answer: &Value) {
        let text = |name: &str| answer.get(name).and_then(Value::as_str);
        for (name, theirs) in OEMBED {
            if let Some(value) = text(theirs) {
                self.add(name, value);
            }
        }
        match text("type") {
            Some("video") => self.add("og:type", "video.other"),
            Some("photo") => self.picture = self.picture.take().or(text("url").map(str::to_owned)),
            Some("rich") => {
                let page = super::page::read(text("html").unwrap_or_default());
                self.add("og:description", &cut_at_word(&page.text, DESCRIPTION_MAX));
            }
            _ => {}
        }
        if self.picture.is_none() {
            self.picture = text("thumbnail_url").map(str::to_owned);
        }
    }

    /// Adds what the page itself shows.
    pub fn add_page(&mut self, page: &Page) {
        self.add("og:title", &page.title);
        self.add("og:title", &page.heading);
        if let Some(description) = page.properties.get("description") {
            self.add("og:description", &one_line(description));
        }
        self.add("og:description", &cut_at_word(&page.text, DESCRIPTION_MAX));
        if self.picture.is_none() {
            self.picture.clone_from(&page.picture);
        }
    }

    /// Whether something is missing that oEmbed might know.
    #[must_use]
    pub fn is_thin(&self) -> bool {
        let missing = |name: &str| !self.members.contains_key(name);
        missing("og:title") || missing("og:description") || self.picture.is_none()
    }
}
