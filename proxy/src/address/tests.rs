#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use http::HeaderValue;

use super::*;

fn trusted(entries: &[&str]) -> Trusted {
    let entries: Vec<String> = entries.iter().map(|e| (*e).to_owned()).collect();
    Trusted::parse(&entries).unwrap()
}

fn client(peer: &str, header: ClientHeader, name: &'static str, values: &[&str]) -> String {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    let peer = SocketAddr::new(peer.parse().unwrap(), 1234);
    let trusted = trusted(&["loopback", "10.0.0.0/8", "2001:db8:1::/48"]);
    client_of(peer, &headers, &trusted, header).ip().to_string()
}

#[test]
fn networks() {
    let some = trusted(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/33", "loopback"]);
    for (addr, is) in [
        ("10.255.0.1", true),
        ("11.0.0.1", false),
        ("192.0.2.7", true),
        ("192.0.2.8", false),
        ("::ffff:10.1.1.1", true),
        ("2001:db8:7fff::1", true),
        ("2001:db8:8000::1", false),
        ("127.9.9.9", true),
        ("::1", true),
    ] {
        assert_eq!(some.contains(addr.parse().unwrap()), is, "{addr}");
    }
    let all = trusted(&["0.0.0.0/0"]);
    assert!(all.contains("203.0.113.9".parse().unwrap()));
    assert!(!all.contains("::2".parse().unwrap()));
}

#[test]
fn presets_and_files() {
    let cloudflare = trusted(&["cloudflare"]);
    assert!(cloudflare.contains("104.16.132.229".parse().unwrap()));
    assert!(cloudflare.contains("2606:4700::6810:84e5".parse().unwrap()));
    assert!(!cloudflare.contains("8.8.8.8".parse().unwrap()));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list");
    std::fs::write(&path, "# ours\n198.51.100.0/24 # the first\n\n").unwrap();
    let entry = format!("file:{}", path.display());
    let own = trusted(&[&entry]);
    assert!(own.contains("198.51.100.9".parse().unwrap()));
    std::fs::write(&path, "nonsense\n").unwrap();
    for wrong in [entry.as_str(), "file:/none/at/all", "10.0.0.0/33", "some"] {
        assert!(Trusted::parse(&[wrong.to_owned()]).is_err(), "{wrong}");
    }
}

#[test]
fn x_forwarded_for_is_read_from_its_end() {
    let ask = |peer: &str, values: &[&str]| {
        client(peer, ClientHeader::XForwardedFor, "x-forwarded-for", values)
    };
    // From somebody who is not believed: nothing.
    assert_eq!(ask("203.0.113.1", &["198.51.100.1"]), "203.0.113.1");
    assert_eq!(ask("127.0.0.1", &[]), "127.0.0.1");
    assert_eq!(ask("127.0.0.1", &["198.51.100.1"]), "198.51.100.1");
    // The first is forged by the client.
    let chain = "6.6.6.6, 198.51.100.1, 10.0.0.5";
    assert_eq!(ask("127.0.0.1", &[chain]), "198.51.100.1");
    assert_eq!(
        ask("127.0.0.1", &["6.6.6.6", "198.51.100.1,10.1.1.1"]),
        "198.51.100.1"
    );
    assert_eq!(ask("127.0.0.1", &["10.0.0.9, 10.0.0.5"]), "10.0.0.9");
    assert_eq!(
        ask("127.0.0.1", &["1.1.1.1, nonsense, 10.0.0.5"]),
        "10.0.0.5"
    );
    assert_eq!(ask("127.0.0.1", &["6.6.6.6,"]), "127.0.0.1");
    assert_eq!(ask("127.0.0.1", &["198.51.100.1:443"]), "198.51.100.1");
    assert_eq!(ask("127.0.0.1", &["[2001:db8::1]:443"]), "2001:db8::1");
    assert_eq!(ask("::ffff:10.0.0.1", &["2001:db8::1"]), "2001:db8::1");
    assert_eq!(ask("127.0.0.1", &["::ffff:198.51.100.7"]), "198.51.100.7");
}

#[test]
fn forwarded_is_read_from_its_end() {
    let ask = |values: &[&str]| client("127.0.0.1", ClientHeader::Forwarded, "forwarded", values);
    assert_eq!(ask(&["for=198.51.100.1"]), "198.51.100.1");
    assert_eq!(
        ask(&["for=6.6.6.6, proto=https;For=\"[2001:db8::7]:4711\";by=10.0.0.1"]),
        "2001:db8::7"
    );
    assert_eq!(ask(&["for=198.51.100.1", "for=10.0.0.3"]), "198.51.100.1");
    assert_eq!(
        ask(&["for=198.51.100.1;ext=\"a,b;for=6.6.6.6\""]),
        "198.51.100.1"
    );
    assert_eq!(ask(&["for=1.1.1.1, for=unknown, for=10.0.0.3"]), "10.0.0.3");
    assert_eq!(ask(&["for=_hidden"]), "127.0.0.1");
    assert_eq!(ask(&["for=\"", "\"\\", ";;,,=,"]), "127.0.0.1");
}

#[test]
fn cf_connecting_ip_is_one_address() {
    let ask = |peer: &str, values: &[&str]| {
        client(
            peer,
            ClientHeader::CfConnectingIp,
            "cf-connecting-ip",
            values,
        )
    };
    assert_eq!(ask("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
    assert_eq!(ask("10.0.0.1", &["198.51.100.1", "6.6.6.6"]), "10.0.0.1");
    assert_eq!(ask("10.0.0.1", &["198.51.100.1, 6.6.6.6"]), "10.0.0.1");
    assert_eq!(ask("203.0.113.1", &["6.6.6.6"]), "203.0.113.1");
}
