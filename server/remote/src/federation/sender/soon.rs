//! EDUs that only help now.

use std::collections::VecDeque;
use std::sync::Arc;

use skerry_core::canonical::write_string;

/// How many are kept for one server; the oldest go first.
const KEPT: usize = 200;
/// How long who types is worth being told, in ms.
const TYPING_MS: u64 = 30_000;
/// How long everything else is, in ms.
const OTHER_MS: u64 = 3_600_000;

/// One of them, as it goes to many servers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SoonEdu {
    kind: String,
    key: String,
    until_ms: u64,
    /// The whole EDU as JSON.
    pub(super) json: String,
}

impl SoonEdu {
    pub(super) fn new(edu_type: &str, key: &str, content: &str, now_ms: u64) -> SoonEdu {
        let mut json = format!("{{\"content\":{content},\"edu_type\":");
        write_string(edu_type, &mut json);
        json.push('}');
        let good_ms = match edu_type {
            "m.typing" => TYPING_MS,
            _ => OTHER_MS,
        };
        SoonEdu {
            kind: edu_type.to_owned(),
            key: key.to_owned(),
            until_ms: now_ms.saturating_add(good_ms),
            json,
        }
    }

    fn replaces(&self, other: &SoonEdu) -> bool {
        self.kind == other.kind && self.key == other.key
    }
}

/// What waits for one server, in the order in which it came.
#[derive(Debug, Default)]
pub(super) struct Soon(VecDeque<Arc<SoonEdu>>);

impl Soon {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn add(&mut self, edu: Arc<SoonEdu>) {
        self.0.retain(|old| !edu.replaces(old));
        self.0.push_back(edu);
        if self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    /// Takes the oldest, at most so many, without those that help no more.
    pub(super) fn take(&mut self, limit: usize, now_ms: u64) -> Vec<Arc<SoonEdu>> {
        self.0.retain(|edu| edu.until_ms > now_ms);
        let limit = limit.min(self.0.len());
        self.0.drain(..limit).collect()
    }

    /// Puts back what did not arrive, except where something newer has come.
    pub(super) fn put_back(&mut self, edus: Vec<Arc<SoonEdu>>) {
        for edu in edus.into_iter().rev() {
            if !self.0.iter().any(|newer| newer.replaces(&edu)) && self.0.len() < KEPT {
                self.0.push_front(edu);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edu(kind: &str, key: &str, content: &str) -> Arc<SoonEdu> {
        Arc::new(SoonEdu::new(kind, key, content, 1_000))
    }

    fn taken(soon: &mut Soon, now_ms: u64) -> Vec<String> {
        let taken = soon.take(10, now_ms);
        taken.into_iter().map(|edu| edu.json.clone()).collect()
    }

    #[test]
    fn the_newest_of_each_is_sent_in_order() {
        let mut soon = Soon::default();
        soon.add(edu("m.receipt", "a", "1"));
        soon.add(edu("m.typing", "a", "2"));
        soon.add(edu("m.receipt", "b", "3"));
        soon.add(edu("m.receipt", "a", "4"));
        assert_eq!(
            taken(&mut soon, 1_000),
            [
                "{\"content\":2,\"edu_type\":\"m.typing\"}",
                "{\"content\":3,\"edu_type\":\"m.receipt\"}",
                "{\"content\":4,\"edu_type\":\"m.receipt\"}",
            ]
        );
        assert!(soon.is_empty());
    }

    #[test]
    fn what_did_not_arrive_comes_again_unless_it_is_old() {
        let mut soon = Soon::default();
        soon.add(edu("m.receipt", "a", "1"));
        soon.add(edu("m.receipt", "b", "2"));
        soon.add(edu("m.typing", "a", "3"));
        let under_way = soon.take(10, 1_000);
        soon.add(edu("m.receipt", "b", "4"));
        soon.put_back(under_way);
        assert_eq!(soon.len(), 3);
        assert_eq!(
            taken(&mut soon, 1_000 + TYPING_MS),
            [
                "{\"content\":1,\"edu_type\":\"m.receipt\"}",
                "{\"content\":4,\"edu_type\":\"m.receipt\"}",
            ]
        );
        for n in 0..=KEPT {
            soon.add(edu("m.receipt", &n.to_string(), "1"));
        }
        assert_eq!(soon.len(), KEPT);
    }
}
