#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;

use super::card::Card;
use super::fetch::{Hosts, parse};
use super::page::read;
use super::{charset, text};

fn card(html: &str) -> Card {
    let page = read(html);
    let mut card = Card::of_properties(&page);
    card.add_page(&page);
    card
}

#[test]
fn open_graph_comes_before_twitter_and_the_page() {
    let card = card(
        r#"<html><head><title>the page</title>
        <meta property="og:title" content="Tom &amp; Jerry">
        <meta property="og:title" content="second">
        <meta name="twitter:title" content="tweeted">
        <meta name="twitter:description" content="from the card">
        <meta name="description" content="from the page">
        <meta property="og:image:width" content="9"><meta property="og:image" content="/a.png">
        <meta property="article:tag" content="not ours">
        </head><body><p>text</p></body></html>"#,
    );
    assert_eq!(card.members["og:title"], "Tom & Jerry");
    assert_eq!(card.members["og:description"], "from the card");
    assert_eq!(card.members.len(), 2, "{card:?}");
    assert_eq!(card.picture.as_deref(), Some("/a.png"));
}

#[test]
fn a_page_that_says_nothing_of_itself_is_read() {
    let card = card(
        r#"<head><title>  Two
        lines </title><style>p { content: "<p>style</p>" }</style>
        <script>var a = "<title>script</title>";</script></head>
        <body><nav>Home <a href=x>Away</a></nav><svg><title>drawing</title></svg>
        <img src="dot.gif" width=1 height=1><img src="data:image/png;base64,xx">
        <p>First <b>bold</b> words.</p><div>Second&nbsp;<i>part</i>.</div>
        <img src='real.png' width="400"></body>"#,
    );
    assert_eq!(card.members["og:title"], "Two lines");
    assert_eq!(
        card.members["og:description"],
        "First bold words. Second part.".replace(". S", ".\nS")
    );
    assert_eq!(card.picture.as_deref(), Some("real.png"));
}

#[test]
fn oembed_fills_what_is_missing() {
    let page = read(
        r#"<link rel="alternate" type="application/json+oembed" href="/oembed?x=1&amp;y=2">
        <meta property="og:title" content="ours">"#,
    );
    assert_eq!(page.oembed.as_deref(), Some("/oembed?x=1&y=2"));
    let mut card = Card::of_properties(&page);
    assert!(card.is_thin());
    card.add_oembed(&json!({
        "type": "rich", "title": "theirs", "provider_name": "Site", "author_name": "Ada",
        "html": "<blockquote><p>said</p></blockquote><script>no</script>",
        "thumbnail_url": "https://x.example/t.png", "thumbnail_width": 5,
    }));
    assert_eq!(
        serde_json::Value::from(card.members),
        json!({
            "og:title": "ours", "og:site_name": "Site", "og:article:author": "Ada",
            "og:description": "said",
        })
    );
    assert_eq!(card.picture.as_deref(), Some("https://x.example/t.png"));
}

#[test]
fn hostile_pages_cost_little() {
    let attributes: String = (0..200_000).map(|n| format!("a{n} ")).collect();
    let began = std::time::Instant::now();
    let page = read(&format!("<title>t</title><p {attributes}>x"));
    assert_eq!(page.title, "t");
    let _ = read(&"<nav>".repeat(200_000));
    let _ = read(&"<".repeat(1_000_000));
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    let many: String = (0..10_000)
        .map(|n| format!("<meta property='og:x{n}' content='{}'>", "y".repeat(50)))
        .collect();
    assert_eq!(read(&many).properties.len(), 64);
    let long = card(&format!("<title>{}</title>", "é".repeat(90_000)));
    assert!(long.members["og:title"].as_str().unwrap().len() <= text::VALUE_MAX);
}

#[test]
fn characters_are_what_the_page_says() {
    let latin = b"<title>caf\xe9</title>";
    assert!(charset::text("text/html; charset=iso-8859-1", latin).contains("café"));
    assert!(charset::text("text/html", latin).contains("café"));
    assert!(charset::text("text/html", "<title>café</title>".as_bytes()).contains("café"));
    let said = b"<meta charset=\"windows-1251\"><title>\xcf\xf0\xe8\xe2\xe5\xf2</title>";
    assert!(charset::text("text/html", said).contains("Привет"));
    let mut sjis =
        b"<meta http-equiv=Content-Type content='text/html; charset=Shift_JIS'>".to_vec();
    sjis.extend_from_slice(b"\x93\xfa\x96\x7b");
    assert!(charset::text("", &sjis).contains("日本"));
    let utf16: Vec<u8> = "\u{feff}hällo"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(charset::text("text/html; charset=utf-8", &utf16), "hällo");
    assert!(charset::text("text/html", b"caf\xc3").starts_with("caf"));
}

#[test]
fn only_plain_links_of_hosts_that_are_wanted() {
    for bad in [
        "",
        "x",
        "ftp://a.example/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://",
        "https://user:pw@a.example/",
        "//a.example/",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    assert_eq!(
        parse("http://A.example/x#y").unwrap().as_str(),
        "http://a.example/x"
    );
    // However an address is written, it is the same for lists and for the guard.
    assert_eq!(
        parse("http://0x7f.1/").unwrap().host_str(),
        Some("127.0.0.1")
    );

    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let hosts = Hosts {
        allowed: Vec::new(),
        denied: list(&["bad.example", "192.0.2.1"]),
    };
    for denied in [
        "bad.example",
        "WWW.Bad.Example",
        "bad.example.",
        "192.0.2.1",
    ] {
        assert!(!hosts.allow(denied), "{denied}");
    }
    assert!(hosts.allow("notbad.example") && hosts.allow("example"));
    let hosts = Hosts {
        allowed: list(&["good.example"]),
        denied: list(&["old.good.example"]),
    };
    assert!(hosts.allow("www.good.example") && !hosts.allow("other.example"));
    assert!(!hosts.allow("old.good.example"));
}
