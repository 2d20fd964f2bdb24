//! The headers that every answer of its kind carries, set here and nowhere else for all of them.
//! An answer that has its own keeps it.

use http::header::{CONTENT_TYPE, SERVER, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue};

/// For pages: nobody else may frame them or learn where they were, and they use no device.
const PAGE: &[(&str, &str)] = &[
    ("x-frame-options", "SAMEORIGIN"),
    ("content-security-policy", "frame-ancestors 'self'"),
    ("referrer-policy", "no-referrer"),
    (
        "permissions-policy",
        "camera=(), microphone=(), display-capture=(), geolocation=(), payment=(), usb=()",
    ),
    ("x-download-options", "noopen"),
    ("x-permitted-cross-domain-policies", "none"),
    ("x-robots-tag", "noindex, nofollow"),
];

/// What browsers are told to remember about TLS, for two years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hsts {
    /// For all names below this one as well.
    pub subdomains: bool,
    /// May be put into the list that browsers come with; only together with `subdomains`.
    pub preload: bool,
}

impl Hsts {
    pub(crate) fn value(self) -> HeaderValue {
        HeaderValue::from_static(match (self.subdomains, self.preload) {
            (false, _) => "max-age=63072000",
            (true, false) => "max-age=63072000; includeSubDomains",
            (true, true) => "max-age=63072000; includeSubDomains; preload",
        })
    }
}

/// Completes an answer's headers; `hsts` where the connection is one that can be promised for
/// years: TLS under a certificate that somebody signed.
pub(crate) fn complete(headers: &mut HeaderMap, hsts: Option<Hsts>) {
    headers.remove(SERVER);
    let entry = headers.entry(X_CONTENT_TYPE_OPTIONS);
    entry.or_insert(HeaderValue::from_static("nosniff"));
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !kind.is_some_and(|kind| kind.starts_with(b"text/html")) {
        return;
    }
    for (name, value) in PAGE {
        let entry = headers.entry(HeaderName::from_static(name));
        entry.or_insert(HeaderValue::from_static(value));
    }
    if let Some(hsts) = hsts {
        let entry = headers.entry(STRICT_TRANSPORT_SECURITY);
        entry.or_insert(hsts.value());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn completed(pairs: &[(&'static str, &'static str)], hsts: Option<Hsts>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        complete(&mut headers, hsts);
        headers
    }

    #[test]
    fn each_kind_has_its_own_and_none_twice() {
        let hsts = Some(Hsts::default());
        let json = completed(
            &[("content-type", "application/json"), ("server", "x")],
            hsts,
        );
        assert_eq!(json.len(), 2, "{json:?}");
        assert_eq!(json["x-content-type-options"], "nosniff");
        let html = [("content-type", "text/html; charset=utf-8")];
        let page = completed(&html, hsts);
        assert_eq!(page["strict-transport-security"], "max-age=63072000");
        for (name, value) in PAGE {
            assert_eq!(page[*name], *value);
        }
        assert!(!completed(&html, None).contains_key("strict-transport-security"));
        let own = [
            html[0],
            ("content-security-policy", "default-src 'none'"),
            ("x-frame-options", "DENY"),
            ("strict-transport-security", "max-age=1"),
            ("x-content-type-options", "nosniff"),
        ];
        let page = completed(&own, hsts);
        for (name, value) in own {
            let all: Vec<_> = page.get_all(name).iter().collect();
            assert_eq!(all, [value], "{name}");
        }
    }

    #[test]
    fn hsts_values() {
        let value = |subdomains, preload| {
            let value = Hsts {
                subdomains,
                preload,
            }
            .value();
            value.to_str().unwrap().to_owned()
        };
        assert_eq!(value(false, true), "max-age=63072000");
        assert!(value(true, false).ends_with("includeSubDomains"));
        assert!(value(true, true).ends_with("; preload"));
    }
}
