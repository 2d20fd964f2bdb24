//! Which servers are asked about a room, and in which order.

use skerry_core::names;

/// The most servers that are asked for one thing.
const MOST: usize = 20;

/// Servers to ask, each once and never ourselves, in the order in which they were found.
#[derive(Clone, Debug)]
pub(super) struct Candidates {
    ours: String,
    found: Vec<String>,
}

impl Candidates {
    /// Nobody yet; `ours` is this server.
    pub(super) fn new(ours: &str) -> Candidates {
        Candidates {
            ours: ours.to_owned(),
            found: Vec::new(),
        }
    }

    /// These too, behind those that are there. What is no server name is left out.
    pub(super) fn and<S: AsRef<str>>(mut self, more: impl IntoIterator<Item = S>) -> Candidates {
        for server in more {
            let server = server.as_ref();
            if self.found.len() >= MOST {
                break;
            }
            if server != self.ours
                && names::is_server_name(server)
                && !self.found.iter().any(|found| found == server)
            {
                self.found.push(server.to_owned());
            }
        }
        self
    }

    /// The server in an id (of a room made before version 12, of a user), behind the others.
    pub(super) fn and_of(self, id: &str) -> Candidates {
        self.and(names::server_of(id))
    }

    /// Them, the likeliest first.
    pub(super) fn list(&self) -> &[String] {
        &self.found
    }
}

#[cfg(test)]
mod tests {
    use super::{Candidates, MOST};

    #[test]
    fn each_is_asked_once_in_order_and_we_never() {
        let candidates = Candidates::new("us.example")
            .and(["b.example", "us.example", "not a name", "a.example:8448"])
            .and(["b.example", "[::1]:80"])
            .and_of("!room:c.example")
            .and_of("!cREaTe0fV12");
        let expected = ["b.example", "a.example:8448", "[::1]:80", "c.example"];
        assert_eq!(candidates.list(), expected);
        let many = (0..100).map(|n| format!("s{n}.example"));
        assert_eq!(Candidates::new("us.example").and(many).list().len(), MOST);
    }
}
