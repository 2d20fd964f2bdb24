//! Proving who asks (server-server API, "Request Authentication"): the `Authorization: X-Matrix`
//! header, in both directions.

use skerry_core::canonical::write_string;
use skerry_core::keys::{SigningKey, verify};
use skerry_core::names;

/// The longest header that is looked at, in bytes.
const HEADER_MAX: usize = 4_096;
/// The longest name of a server, in bytes: ids that end with one are not longer.
const NAME_MAX: usize = 255;

/// A request as it is signed.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// In capitals.
    pub method: &'a str,
    /// Path and query as they are sent.
    pub uri: &'a str,
    /// Who asks.
    pub origin: &'a str,
    /// Who is asked.
    pub destination: &'a str,
    /// The body as canonical JSON, where there is one.
    pub content: Option<&'a str>,
}

impl Signed<'_> {
    /// The text that is signed. `destination` is left out for old servers that do so too.
    fn text(&self, with_destination: bool) -> String {
        let room = self.content.map_or(0, str::len) + self.uri.len() + 256;
        let mut text = String::with_capacity(room);
        // Already in the order of canonical JSON.
        for (name, value) in [
            ("content", self.content.map(|content| (content, true))),
            (
                "destination",
                with_destination.then_some((self.destination, false)),
            ),
            ("method", Some((self.method, false))),
            ("origin", Some((self.origin, false))),
            ("uri", Some((self.uri, false))),
        ] {
            let Some((value, is_json)) = value else {
                continue;
            };
            text.push(if text.is_empty() { '{' } else { ',' });
            write_string(name, &mut text);
            text.push(':');
            if is_json {
                text.push_str(value);
            } else {
                write_string(value, &mut text);
            }
        }
        text.push('}');
        text
    }

    /// The header's value for a request of ours.
    #[must_use]
    pub fn authorization(&self, key: &SigningKey) -> String {
        let signature = key.sign(self.text(true).as_bytes());
        format!(
            "X-Matrix origin=\"{}\",destination=\"{}\",key=\"{}\",sig=\"{signature}\"",
            self.origin,
            self.destination,
            key.id()
        )
    }

    /// Whether a header's signature of this request is good under a key of the origin.
    #[must_use]
    pub fn is_signed(&self, proof: &Proof, public_key: &[u8; 32]) -> bool {
        let text = self.text(proof.destination.is_some());
        proof.origin == self.origin && verify(public_key, &proof.signature, text.as_bytes())
    }
}

/// What an `X-Matrix` header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Who asks.
    pub origin: String,
    /// Who is asked; servers from before v1.3 leave it out.
    pub destination: Option<String>,
    /// The id of the key.
    pub key: String,
    /// The signature, in base64.
    pub signature: String,
}

impl Proof {
    /// Reads the value of an `Authorization` header; nothing for another scheme and for anything
    /// malformed: a parameter that is missing or there twice, a name that is none.
    #[must_use]
    pub fn parse(header: &str) -> Option<Proof> {
        if header.len() > HEADER_MAX {
            return None;
        }
        let (scheme, rest) = header.trim().split_once([' ', '\t'])?;
        if !scheme.eq_ignore_ascii_case("x-matrix") {
            return None;
        }
        let (mut origin, mut destination, mut key, mut signature) = (None, None, None, None);
        let mut reader = Reader(rest.trim_start());
        while let Some((name, value)) = reader.parameter()? {
            let place = match name.to_ascii_lowercase().as_str() {
                "origin" => &mut origin,
                "destination" => &mut destination,
                "key" => &mut key,
                "sig" => &mut signature,
                // Others may come with later versions.
                _ => continue,
            };
            if place.replace(value).is_some() {
                return None;
            }
        }
        let proof = Proof {
            origin: origin?,
            destination,
            key: key?,
            signature: signature?,
        };
        let is_name = |name: &str| name.len() <= NAME_MAX && names::is_server_name(name);
        let names_good = is_name(&proof.origin) && proof.destination.as_deref().is_none_or(is_name);
        let key_good = proof
            .key
            .strip_prefix("ed25519:")
            .is_some_and(|version| !version.is_empty());
        (names_good && key_good).then_some(proof)
    }
}

/// Reads `name=value` pairs with commas between them (RFC 9110, section 11).
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    /// The next pair; `Some(None)` at the end, `None` where there is something else.
    #[allow(clippy::option_option)] // A fault, the end, or a pair.
    fn parameter(&mut self) -> Option<Option<(&'a str, String)>> {
        self.0 = self.0.trim_start_matches([' ', '\t', ',']);
        if self.0.is_empty() {
            return Some(None);
        }
        let (name, rest) = self.0.split_once('=')?;
        let name = name.trim_end();
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) {
            return None;
        }
        let rest = rest.trim_start();
        let value = match rest.strip_prefix('"') {
            Some(quoted) => self.quoted(quoted)?,
            None => self.unquoted(rest),
        };
        let next = self.0.trim_start();
        if !next.is_empty() && !next.starts_with(',') {
            return None;
        }
        Some(Some((name, value)))
    }

    /// Up to the closing quote; a backslash takes the meaning of what follows.
    fn quoted(&mut self, text: &'a str) -> Option<String> {
        let mut value = String::new();
        let mut chars = text.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.0 = text.get(at + 1..)?;
                    return Some(value);
                }
                '\\' => value.push(chars.next()?.1),
                c => value.push(c),
            }
        }
        None
    }

    /// Up to a comma or a space. Colons may stand unquoted, as old servers have it.
    fn unquoted(&mut self, text: &'a str) -> String {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        self.0 = rest;
        value.to_owned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;
    use skerry_core::canonical::{Mode, Object};
    use skerry_core::keys::verify_object;

    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_seed(&[7; 32], "a").unwrap()
    }

    fn request(content: Option<&str>) -> Signed<'_> {
        Signed {
            method: "PUT",
            uri: "/_matrix/federation/v1/send/1?a=b",
            origin: "one.example",
            destination: "two.example:8448",
            content,
        }
    }

    #[test]
    fn what_is_signed_here_is_believed_there_and_nothing_else_is() {
        for content in [None, Some("{\"edus\":{},\"pdus\":[1]}")] {
            let good = request(content);
            let proof = Proof::parse(&good.authorization(&key())).unwrap();
            assert_eq!(proof.destination.as_deref(), Some("two.example:8448"));
            let public = key().public_key();
            assert!(good.is_signed(&proof, &public));
            for bad in [
                Signed {
                    method: "GET",
                    ..good
                },
                Signed {
                    uri: "/_matrix/federation/v1/send/2",
                    ..good
                },
                Signed {
                    origin: "three.example",
                    ..good
                },
                Signed {
                    destination: "three.example",
                    ..good
                },
                Signed {
                    content: Some("{}"),
                    ..good
                },
            ] {
                assert!(!bad.is_signed(&proof, &public), "{bad:?}");
            }
            let stranger = SigningKey::from_seed(&[8; 32], "a").unwrap();
            assert!(!good.is_signed(&proof, &stranger.public_key()));
        }
    }

    #[test]
    fn what_is_signed_is_the_object_that_the_specification_names() {
        let proof = Proof::parse(&request(Some("{\"a\":1.5}")).authorization(&key())).unwrap();
        let text = format!(
            "{{\"method\":\"PUT\",\"uri\":\"/_matrix/federation/v1/send/1?a=b\",\
             \"origin\":\"one.example\",\"destination\":\"two.example:8448\",\
             \"content\":{{\"a\":1.5}},\
             \"signatures\":{{\"one.example\":{{\"ed25519:a\":\"{}\"}}}}}}",
            proof.signature
        );
        let object = Object::parse(text.as_bytes(), Mode::Lenient).unwrap();
        let public = key().public_key();
        assert!(verify_object(&object, "one.example", "ed25519:a", &public));
    }

    #[test]
    fn every_way_to_write_the_header_is_read() {
        let proof = |destination: Option<&str>| {
            Some(Proof {
                origin: "a.example".to_owned(),
                destination: destination.map(str::to_owned),
                key: "ed25519:k".to_owned(),
                signature: "c2ln".to_owned(),
            })
        };
        for (header, expected) in [
            (
                "X-Matrix origin=a.example,key=\"ed25519:k\",sig=\"c2ln\"",
                proof(None),
            ),
            (
                "x-matrix ORIGIN=\"a.example\",Destination=\"b:1\",KEY=ed25519:k,Sig=c2ln",
                proof(Some("b:1")),
            ),
            (
                "X-Matrix  sig=c2ln , key = \"ed25519:k\" ,, origin = a.example , new=\"x,y\"",
                proof(None),
            ),
            (
                "X-Matrix origin=\"a\\.example\",key=ed25519:k,sig=c2ln",
                proof(None),
            ),
        ] {
            assert_eq!(Proof::parse(header), expected, "{header}");
        }
    }

    #[test]
    fn anything_malformed_is_no_proof() {
        let long = format!(
            "X-Matrix origin=a,key=ed25519:k,sig={}",
            "a".repeat(HEADER_MAX)
        );
        for header in [
            "",
            "X-Matrix",
            "Bearer abc",
            "X-Matrix origin=a,key=ed25519:k",
            "X-Matrix origin=a,origin=b,key=ed25519:k,sig=x",
            "X-Matrix origin=\"a,key=ed25519:k,sig=x",
            "X-Matrix origin=\"a\"key=ed25519:k,sig=x",
            "X-Matrix origin=a b,key=ed25519:k,sig=x",
            "X-Matrix origin=\"not a name\",key=ed25519:k,sig=x",
            "X-Matrix origin=a,destination=\"not a name\",key=ed25519:k,sig=x",
            "X-Matrix origin=a,key=rsa:k,sig=x",
            "X-Matrix origin=a,key=ed25519:,sig=x",
            "X-Matrix =a,key=ed25519:k,sig=x",
            &long,
        ] {
            assert_eq!(Proof::parse(header), None, "{header}");
        }
    }

    fn quoted(value: &str) -> String {
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{escaped}\"")
    }

    proptest! {
        /// Whatever comes is read or refused; what is read says who asks.
        #[test]
        fn no_header_is_too_strange(text in "\\PC{0,200}", part in "[-a-z0-9=\",\\\\ :.]{0,80}") {
            for header in [text.clone(), format!("X-Matrix {text}"), format!("X-Matrix {part}")] {
                if let Some(proof) = Proof::parse(&header) {
                    prop_assert!(names::is_server_name(&proof.origin));
                }
            }
        }

        /// However a value is quoted, it is read as it was meant.
        #[test]
        fn quoting_is_undone(signature in "\\PC{0,60}", version in "[a-zA-Z0-9_]{1,10}") {
            let header = format!(
                "X-Matrix origin=a.example,key={},sig={}",
                quoted(&format!("ed25519:{version}")),
                quoted(&signature)
            );
            let proof = Proof::parse(&header).unwrap();
            prop_assert_eq!(proof.signature, signature);
            prop_assert_eq!(proof.key, format!("ed25519:{version}"));
        }
    }
}
