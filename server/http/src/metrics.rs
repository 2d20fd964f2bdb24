//! Requests, counted: how many of each class, how they were answered and how long that took; and
//! the text in which such figures are read.

mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Rate;

pub use text::{Figures, Kind};

/// What kind of request it is, as far as an operator cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Long polls.
    Sync,
    /// Reads that cost little.
    Read,
    Send,
    Join,
    Login,
    Register,
    Media,
    Upload,
    Heavy,
    /// Of other servers.
    Federation,
    Admin,
    /// `/health`, `/.well-known` and the like.
    House,
    /// Files of a web client.
    Page,
    /// Paths that nobody has.
    Unknown,
}

const CLASSES: [Class; 14] = [
    Class::Sync,
    Class::Read,
    Class::Send,
    Class::Join,
    Class::Login,
    Class::Register,
    Class::Media,
    Class::Upload,
    Class::Heavy,
    Class::Federation,
    Class::Admin,
    Class::House,
    Class::Page,
    Class::Unknown,
];

impl Class {
    /// The class of a route.
    pub(crate) fn of(path: &str, rate: Rate) -> Class {
        let begins = |with: &[&str]| with.iter().any(|start| path.starts_with(start));
        if begins(&["/_matrix/federation/", "/_matrix/key/"]) {
            return Class::Federation;
        }
        if begins(&["/_synapse/admin/", "/_skerry/"]) {
            return Class::Admin;
        }
        if !begins(&["/_"]) {
            return Class::House;
        }
        if ["/sync", "/events"].iter().any(|end| path.ends_with(end)) {
            return Class::Sync;
        }
        match rate {
            Rate::Free => Class::Read,
            Rate::Send => Class::Send,
            Rate::Join => Class::Join,
            Rate::Login => Class::Login,
            Rate::Register => Class::Register,
            Rate::Media => Class::Media,
            Rate::Upload => Class::Upload,
            Rate::Heavy => Class::Heavy,
            Rate::Federation => Class::Federation,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Class::Sync => "sync",
            Class::Read => "read",
            Class::Send => "send",
            Class::Join => "join",
            Class::Login => "login",
            Class::Register => "register",
            Class::Media => "media",
            Class::Upload => "upload",
            Class::Heavy => "heavy",
            Class::Federation => "federation",
            Class::Admin => "admin",
            Class::House => "house",
            Class::Page => "page",
            Class::Unknown => "unknown",
        }
    }
}

/// The statuses that are told apart, from 100.
const STATUSES: usize = 500;
/// The ends of the steps in which durations are counted, in microseconds; the last has none.
const STEPS: [u64; 15] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// The counts of one class.
struct Counts {
    statuses: Vec<AtomicU64>,
    steps: [AtomicU64; STEPS.len() + 1],
    micros: AtomicU64,
    open: AtomicU64,
}

impl Default for Counts {
    fn default() -> Self {
        Counts {
            statuses: (0..STATUSES).map(|_| AtomicU64::new(0)).collect(),
            steps: Default::default(),
            micros: AtomicU64::new(0),
            open: AtomicU64::new(0),
        }
    }
}

/// What was asked and answered since the start. Counting costs three additions.
pub struct Metrics {
    classes: Vec<Counts>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            classes: CLASSES.iter().map(|_| Counts::default()).collect(),
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// A request has come.
    pub(crate) fn begin(self: &Arc<Self>, class: Class) -> Asked {
        if let Some(counts) = self.classes.get(class as usize) {
            counts.open.fetch_add(1, Ordering::Relaxed);
        }
        Asked {
            metrics: Arc::clone(self),
            class,
            begun: Instant::now(),
        }
    }

    fn answered(&self, class: Class, status: u16, took: Duration) {
        let Some(counts) = self.classes.get(class as usize) else {
            return;
        };
        let place = usize::from(status.saturating_sub(100));
        if let Some(count) = counts.statuses.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let step = STEPS.partition_point(|end| *end < micros);
        if let Some(count) = counts.steps.get(step) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        counts.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Writes all that was counted.
    pub fn write(&self, into: &mut Figures) {
        into.family(
            "skerry_http_requests_total",
            Kind::Counter,
            "Requests that were answered, by class and status.",
        );
        for (class, counts) in CLASSES.iter().zip(&self.classes) {
            for (place, count) in counts.statuses.iter().enumerate() {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let status = (place + 100).to_string();
                    let labels = [("class", class.name()), ("status", status.as_str())];
                    into.sample("", &labels, count as f64);
                }
            }
        }
        into.family(
            "skerry_http_requests_open",
            Kind::Gauge,
            "Requests under way; of the class sync most of them wait for news.",
        );
        for (class, counts) in CLASSES.iter().zip(&self.classes) {
            let open = counts.open.load(Ordering::Relaxed);
            into.sample("", &[("class", class.name())], open as f64);
        }
        into.family(
            "skerry_http_request_seconds",
            Kind::Histogram,
            "How long it took until the answer began.",
        );
        for (class, counts) in CLASSES.iter().zip(&self.classes) {
            histogram(into, class.name(), counts);
        }
    }
}

/// The steps of a class that was asked for at all.
fn histogram(into: &mut Figures, class: &str, counts: &Counts) {
    let steps: Vec<u64> = counts
        .steps
        .iter()
        .map(|n| n.load(Ordering::Relaxed))
        .collect();
    let all: u64 = steps.iter().sum();
    if all == 0 {
        return;
    }
    let mut upto = 0;
    for (end, count) in STEPS.iter().zip(&steps) {
        upto += count;
        let end = (*end as f64 / 1e6).to_string();
        into.sample("_bucket", &[("class", class), ("le", &end)], upto as f64);
    }
    into.sample("_bucket", &[("class", class), ("le", "+Inf")], all as f64);
    let micros = counts.micros.load(Ordering::Relaxed);
    into.sample("_sum", &[("class", class)], micros as f64 / 1e6);
    into.sample("_count", &[("class", class)], all as f64);
}

/// A request under way; also one whose client went away ends.
pub(crate) struct Asked {
    metrics: Arc<Metrics>,
    class: Class,
    begun: Instant,
}

impl Asked {
    pub(crate) fn answered(self, status: u16) {
        self.metrics
            .answered(self.class, status, self.begun.elapsed());
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(counts) = self.metrics.classes.get(self.class as usize) {
            counts.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_class_has_its_place() {
        for (place, class) in CLASSES.iter().enumerate() {
            assert_eq!(*class as usize, place);
        }
        for (path, rate, class) in [
            ("/_matrix/client/v3/sync", Rate::Free, Class::Sync),
            (
                "/_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}",
                Rate::Send,
                Class::Send,
            ),
            ("/_matrix/client/versions", Rate::Free, Class::Read),
            (
                "/_matrix/federation/v1/send/{txnId}",
                Rate::Free,
                Class::Federation,
            ),
            ("/_synapse/admin/v2/users", Rate::Free, Class::Admin),
            ("/.well-known/matrix/client", Rate::Free, Class::House),
            ("/health", Rate::Free, Class::House),
        ] {
            assert_eq!(Class::of(path, rate), class, "{path}");
        }
    }

    #[test]
    fn what_is_counted_is_written() {
        let metrics = Arc::new(Metrics::default());
        metrics.answered(Class::Send, 200, Duration::from_millis(3));
        metrics.answered(Class::Send, 200, Duration::from_secs(100));
        metrics.answered(Class::Send, 429, Duration::from_micros(10));
        let open = metrics.begin(Class::Sync);
        let written = || {
            let mut figures = Figures::default();
            metrics.write(&mut figures);
            figures.into_text()
        };
        let text = written();
        for line in [
            "# TYPE skerry_http_requests_total counter",
            "skerry_http_requests_total{class=\"send\",status=\"200\"} 2",
            "skerry_http_requests_total{class=\"send\",status=\"429\"} 1",
            "skerry_http_requests_open{class=\"sync\"} 1",
            "skerry_http_request_seconds_bucket{class=\"send\",le=\"0.001\"} 1",
            "skerry_http_request_seconds_bucket{class=\"send\",le=\"0.0025\"} 1",
            "skerry_http_request_seconds_bucket{class=\"send\",le=\"0.005\"} 2",
            "skerry_http_request_seconds_bucket{class=\"send\",le=\"60\"} 2",
            "skerry_http_request_seconds_bucket{class=\"send\",le=\"+Inf\"} 3",
            "skerry_http_request_seconds_sum{class=\"send\"} 100.00301",
            "skerry_http_request_seconds_count{class=\"send\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
        }
        assert!(!text.contains("class=\"join\",le"));
        open.answered(200);
        assert!(written().contains("skerry_http_requests_open{class=\"sync\"} 0"));
    }
}
