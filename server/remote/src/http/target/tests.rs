#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

#[test]
fn locations_are_read_as_browsers_read_them() {
    let base: Uri = "https://a.example:8448/x/y?z=1".parse().unwrap();
    let to = |location: &str| joined(&base, location).map(|uri| uri.to_string());
    assert_eq!(to("https://b.example/q").unwrap(), "https://b.example/q");
    assert_eq!(to("//b.example/q").unwrap(), "https://b.example/q");
    assert_eq!(to("/q?r=1").unwrap(), "https://a.example:8448/q?r=1");
    assert_eq!(to("q").unwrap(), "https://a.example:8448/x/q");
    assert_eq!(to("?r").unwrap(), "https://a.example:8448/x/y?r");
    assert_eq!(to("/q#part").unwrap(), "https://a.example:8448/q");
    assert_eq!(to("javascript:alert(1)"), None);
    assert_eq!(to("ftp://b.example/"), None);
}

#[test]
fn a_target_is_what_the_url_or_the_route_says() {
    let target = |url: &str| Target::of(&url.parse().unwrap(), None, false);
    let plain = target("http://[::1]:8008/a").unwrap();
    assert_eq!((plain.host.as_str(), plain.port), ("::1", 8008));
    assert_eq!(plain.tls_name, None);
    let safe = target("https://a.example/").unwrap();
    assert_eq!((safe.host.as_str(), safe.port), ("a.example", 443));
    assert_eq!(safe.tls_name.as_deref(), Some("a.example"));
    assert!(target("ftp://a.example/").is_err());
    assert!(target("https://user:pass@a.example/").is_err());
    let route = Route {
        host: "real.example".to_owned(),
        port: 8448,
        tls_name: "a.example".to_owned(),
    };
    let routed = Target::of(&"https://a.example/".parse().unwrap(), Some(&route), false).unwrap();
    assert_eq!((routed.host.as_str(), routed.port), ("real.example", 8448));
    assert_eq!(routed.tls_name.as_deref(), Some("a.example"));
}
