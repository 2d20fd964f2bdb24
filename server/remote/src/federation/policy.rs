//! Which servers we talk with.

use skerry_core::push::glob_matches;

/// Which servers we talk with, as the operator says: by names, in which `*` stands for any
/// characters and `?` for one. Letters count the same in either case, and ports do not count.
#[derive(Clone, Debug)]
pub struct Policy {
    enabled: bool,
    allow: Vec<String>,
    deny: Vec<String>,
}

impl Policy {
    /// With these only (with all where nothing is named), and never with those; with nobody at
    /// all unless `enabled`.
    #[must_use]
    pub fn new(enabled: bool, allow: &[String], deny: &[String]) -> Policy {
        let lower = |names: &[String]| names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Policy {
            enabled,
            allow: lower(allow),
            deny: lower(deny),
        }
    }

    /// With everybody.
    #[must_use]
    pub fn open() -> Policy {
        Policy::new(true, &[], &[])
    }

    /// Whether we talk with other servers at all.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Whether we talk with this one.
    #[must_use]
    pub fn permits(&self, server: &str) -> bool {
        let host = host_of(server).to_ascii_lowercase();
        let named = |names: &[String]| names.iter().any(|name| glob_matches(name, &host));
        self.enabled && !named(&self.deny) && (self.allow.is_empty() || named(&self.allow))
    }
}

/// A server name without its port.
fn host_of(server: &str) -> &str {
    match server.rsplit_once(':') {
        // The colons of an address in brackets are its own.
        Some((host, port)) if !port.contains(']') => host,
        _ => server,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_case_and_port() {
        let names = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let policy = Policy::new(
            true,
            &names(&["*.Good.example", "[::1]", "1.2.3.?"]),
            &names(&["bad.good.example"]),
        );
        for (server, permitted) in [
            ("a.good.example", true),
            ("A.GOOD.EXAMPLE:8448", true),
            ("good.example", false),
            ("bad.good.example", false),
            ("BAD.good.example:1", false),
            ("[::1]:8448", true),
            ("[::1]", true),
            ("1.2.3.4:80", true),
            ("1.2.3.45", false),
            ("other.example", false),
        ] {
            assert_eq!(policy.permits(server), permitted, "{server}");
        }
        assert!(Policy::open().permits("other.example"));
        assert!(!Policy::new(false, &[], &[]).permits("other.example"));
    }
}
