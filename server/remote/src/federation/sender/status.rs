//! How it goes with each server, for the administrator.

use std::sync::Arc;

use skerry_store::outbox::Standing;

use super::Sender;

/// How sending to a server goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendStatus {
    /// The server.
    pub server: Arc<str>,
    /// How reaching it went; nothing if it was never tried.
    pub standing: Option<Standing>,
    /// How many events wait for it one by one.
    pub pdus: usize,
    /// Of how many rooms it missed so much that it is told how they stand.
    pub rooms: usize,
    /// Whether EDUs wait for it.
    pub edus: bool,
}

impl Sender {
    /// How it goes with all servers that were tried or for which something waits, by name.
    #[must_use]
    pub fn statuses(&self) -> Vec<SendStatus> {
        let standings = self.inner.peers.standings();
        let mut all: Vec<SendStatus> = {
            let queues = self.inner.queues.lock();
            let waiting = queues.iter().map(|(_, queue)| {
                let flight = queue.flight.as_ref();
                SendStatus {
                    server: Arc::clone(&queue.name),
                    standing: standings.of(&queue.name),
                    pdus: queue.pdus.len() + flight.map_or(0, |flight| flight.pdus.len()),
                    rooms: queue.owed.len() + flight.map_or(0, |flight| flight.owed.len()),
                    edus: queue.rows
                        || !queue.soon.is_empty()
                        || flight.is_some_and(|f| f.rows.len() + f.soon.len() > 0),
                }
            });
            waiting.collect()
        };
        let waiting: std::collections::HashSet<_> = all.iter().map(|s| s.server.clone()).collect();
        let others = standings.all().into_iter();
        let others = others.filter(|(name, _)| !waiting.contains(name));
        all.extend(others.map(|(server, standing)| SendStatus {
            server,
            standing: Some(standing),
            pdus: 0,
            rooms: 0,
            edus: false,
        }));
        all.sort_by(|a, b| a.server.cmp(&b.server));
        all
    }

    /// How it goes with one server; nothing where it was never tried and nothing waits for it.
    #[must_use]
    pub fn status(&self, server: &str) -> Option<SendStatus> {
        let all = self.statuses();
        all.into_iter().find(|status| *status.server == *server)
    }
}
