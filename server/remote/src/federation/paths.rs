//! Paths of other servers' endpoints.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands for itself in a path or a query (RFC 3986, "Unreserved Characters").
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A path with its query, being put together.
#[derive(Clone, Debug)]
pub(super) struct Path {
    text: String,
    queried: bool,
}

impl Path {
    /// An endpoint of the first version of the API.
    pub(super) fn v1(endpoint: &str) -> Path {
        Path::of("v1", endpoint)
    }

    /// An endpoint of the second version of the API.
    pub(super) fn v2(endpoint: &str) -> Path {
        Path::of("v2", endpoint)
    }

    fn of(version: &str, endpoint: &str) -> Path {
        Path {
            text: format!("/_matrix/federation/{version}/{endpoint}"),
            queried: false,
        }
    }

    /// One more segment.
    pub(super) fn part(mut self, segment: &str) -> Path {
        self.text.push('/');
        self.text.extend(utf8_percent_encode(segment, ESCAPED));
        self
    }

    /// One more parameter of the query.
    pub(super) fn query(mut self, name: &str, value: &str) -> Path {
        self.text.push(if self.queried { '&' } else { '?' });
        self.queried = true;
        let value = utf8_percent_encode(value, ESCAPED);
        // Writing to a string cannot fail.
        let _ = write!(self.text, "{name}={value}");
        self
    }

    /// The path as it is sent.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::Path;

    #[test]
    fn what_has_a_meaning_in_urls_is_escaped() {
        let path = Path::v1("make_join")
            .part("!a/b?c#d:x.example:8448")
            .part("@ä%:y")
            .query("ver", "1")
            .query("ver", "a&b=c");
        let expected = "/_matrix/federation/v1/make_join/%21a%2Fb%3Fc%23d%3Ax.example%3A8448/\
                        %40%C3%A4%25%3Ay?ver=1&ver=a%26b%3Dc";
        assert_eq!(path.as_str(), expected);
        assert_eq!(Path::v2("x").as_str(), "/_matrix/federation/v2/x");
    }
}
