//! Which servers a room lets take part (client-server API, "Server Access Control Lists (ACLs)
//! for rooms").

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::canonical::{Object, Value};
use crate::push::glob;

/// What an `m.room.server_acl` event says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerAcl {
    allow: Vec<String>,
    deny: Vec<String>,
    ip_literals: bool,
}

impl ServerAcl {
    /// From the event's content. What is of another shape than it should be counts as absent: a
    /// room without a list of whom it allows is closed to everybody.
    #[must_use]
    pub fn of(content: &Object) -> ServerAcl {
        let list = |field: &str| {
            let items = content.get(field).and_then(Value::as_array);
            let patterns = items.unwrap_or_default().iter().filter_map(Value::as_str);
            patterns.map(str::to_lowercase).collect()
        };
        ServerAcl {
            allow: list("allow"),
            deny: list("deny"),
            ip_literals: content.get("allow_ip_literals").and_then(Value::as_bool) != Some(false),
        }
    }

    /// Whether a server may take part. Its port does not count, nor does case.
    #[must_use]
    pub fn allows(&self, server: &str) -> bool {
        let host = host_of(server).to_lowercase();
        if !self.ip_literals && is_ip_literal(&host) {
            return false;
        }
        let any = |patterns: &[String]| patterns.iter().any(|one| glob::matches(one, &host));
        !any(&self.deny) && any(&self.allow)
    }
}

/// A server name without its port.
fn host_of(server: &str) -> &str {
    match server.rsplit_once(':') {
        // The colons of an IPv6 address stand in brackets.
        Some((host, port)) if !port.contains(']') => host,
        _ => server,
    }
}

fn is_ip_literal(host: &str) -> bool {
    let inner = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match inner {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::canonical::Mode;

    fn acl(content: &str) -> ServerAcl {
        ServerAcl::of(&Object::parse(content.as_bytes(), Mode::Strict).unwrap())
    }

    #[test]
    fn deny_goes_before_allow_and_allow_is_needed() {
        let acl = acl(r#"{"allow":["*"],"deny":["*.Evil.com","evil?.com"]}"#);
        for (server, allowed) in [
            ("good.com", true),
            ("evil.com", true),
            ("x.evil.com", false),
            ("X.EVIL.COM:8448", false),
            ("evil1.com", false),
            ("evil12.com", true),
        ] {
            assert_eq!(acl.allows(server), allowed, "{server}");
        }
        let acl = self::acl(r#"{"allow":["a.com"]}"#);
        assert!(acl.allows("A.com:1") && !acl.allows("b.com") && !acl.allows("xa.com"));
    }

    #[test]
    fn ip_literals_are_known_with_and_without_ports() {
        let closed = acl(r#"{"allow":["*"],"allow_ip_literals":false}"#);
        let open = acl(r#"{"allow":["*"]}"#);
        for server in [
            "1.2.3.4",
            "1.2.3.4:8448",
            "[2001:db8::1]",
            "[2001:db8::1]:8448",
        ] {
            assert!(!closed.allows(server) && open.allows(server), "{server}");
        }
        for server in ["1.2.3.4.com", "256.1.1.1", "a.com:8448"] {
            assert!(closed.allows(server), "{server}");
        }
        let one = acl(r#"{"allow":["[2001:db8::1]"]}"#);
        assert!(one.allows("[2001:db8::1]:8448") && !one.allows("[2001:db8::2]"));
    }

    #[test]
    fn nonsense_closes_the_room() {
        for content in [
            "{}",
            r#"{"allow":"*"}"#,
            r#"{"allow":[1]}"#,
            r#"{"deny":[]}"#,
        ] {
            assert!(!acl(content).allows("a.com"), "{content}");
        }
        let odd = acl(r#"{"allow":["*",3],"deny":"a.com","allow_ip_literals":"no"}"#);
        assert!(odd.allows("a.com") && odd.allows("1.2.3.4"));
    }
}
