//! `GET /metrics`: figures for the operator's monitoring, in the text format of Prometheus. On the
//! admin socket always; on the other listeners only for who shows the token of
//! `metrics.token_file`.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use http::header::AUTHORIZATION;
use skerry_federation::Inbox;
use skerry_http::{Answer, ApiError, Call, Figures, Kind, Metrics, Route, route};
use skerry_proxy::{Acme, Counters, Served};
use skerry_remote::federation::Federation;
use skerry_store::{Store, StoreError, blocking, outbox};
use subtle::ConstantTimeEq as _;

use crate::{House, allocator};

/// The text format's name.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is counted while the server runs.
#[derive(Default)]
pub struct Gauges {
    /// Requests.
    pub requests: Arc<Metrics>,
    /// Connections.
    pub door: Arc<Counters>,
    /// The certificates from files that the doors serve; set once the doors are open.
    pub served: OnceLock<Vec<Served>>,
}

/// What figures are made of.
pub(crate) struct Sight {
    gauges: Arc<Gauges>,
    store: Arc<Store>,
    /// Where data is kept.
    dir: PathBuf,
    acme: Option<Acme>,
    /// Other servers, and what they sent.
    others: (Federation, Inbox),
    /// What has to be shown; none: nothing.
    token: Option<String>,
}

/// The endpoint.
pub(crate) const ROUTES: &[Route<Sight>] = &[route!(GET "/metrics", None, Free, metrics)];

async fn metrics(sight: Arc<Sight>, call: Call) -> Result<Answer, ApiError> {
    if let Some(token) = &sight.token {
        let shown = call.header(&AUTHORIZATION).unwrap_or_default();
        let shown = shown.strip_prefix("Bearer ").unwrap_or_default();
        if !bool::from(shown.as_bytes().ct_eq(token.as_bytes())) {
            return Err(ApiError::unauthorized(
                "The token of metrics.token_file is needed",
            ));
        }
    }
    let look = move || sight.look();
    let text = blocking(look).await.map_err(ApiError::internal)?;
    Ok(Answer::bytes(FORMAT, text.map_err(ApiError::internal)?))
}

impl Sight {
    /// What is seen of a house, by whoever shows the token, where there is one.
    pub(crate) fn of(house: &House, token: Option<&String>) -> Arc<Sight> {
        Arc::new(Sight {
            gauges: Arc::clone(&house.gauges),
            store: Arc::clone(&house.store),
            dir: house.config.data_dir.clone(),
            acme: house.acme.clone(),
            others: (house.outgoing.federation.clone(), house.inbox.clone()),
            token: token.cloned(),
        })
    }

    /// All figures. Blocks on the disk.
    fn look(&self) -> Result<String, StoreError> {
        let mut figures = Figures::default();
        self.gauges.requests.write(&mut figures);
        self.door(&mut figures);
        self.certificates(&mut figures);
        self.queues(&mut figures)?;
        self.database(&mut figures)?;
        process(&mut figures);
        Ok(figures.into_text())
    }

    fn door(&self, figures: &mut Figures) {
        let counted = self.gauges.door.counted();
        for (name, help, value) in [
            (
                "skerry_connections_total",
                "Connections that were taken.",
                counted.accepted,
            ),
            (
                "skerry_connections_dropped_total",
                "Connections of addresses that have too many or ask too much.",
                counted.dropped,
            ),
            (
                "skerry_requests_refused_total",
                "Requests of addresses that ask too much; the other limits are in \
                 skerry_http_requests_total, status 429.",
                counted.refused,
            ),
            (
                "skerry_tls_handshakes_total",
                "TLS handshakes that came to a good end.",
                counted.handshakes,
            ),
            (
                "skerry_tls_handshakes_failed_total",
                "TLS handshakes that failed or took too long.",
                counted.failed_handshakes,
            ),
        ] {
            figures.one(name, Kind::Counter, help, value as f64);
        }
        let (name, help) = ("skerry_connections_open", "Connections that are open.");
        figures.one(name, Kind::Gauge, help, counted.open as f64);
    }

    /// How it stands with the certificates; what goes wrong in the CA's own words.
    fn certificates(&self, figures: &mut Figures) {
        let standings = self.acme.as_ref().map(Acme::standings).unwrap_or_default();
        figures.family(
            "skerry_certificate_until_seconds",
            Kind::Gauge,
            "Until when a certificate is good, in seconds since 1970; 0 where there is none.",
        );
        let seconds = |ms: Option<u64>| ms.unwrap_or(0) as f64 / 1000.0;
        for one in &standings {
            let labels = [("name", one.name.as_str()), ("from", "acme")];
            figures.sample("", &labels, seconds(one.until_ms));
        }
        for file in self.gauges.served.get().into_iter().flatten() {
            for (path, until_ms) in file.until() {
                let path = path.display().to_string();
                figures.sample("", &[("name", &path), ("from", "file")], seconds(until_ms));
            }
        }
        figures.family(
            "skerry_certificate_failures",
            Kind::Gauge,
            "How often in a row no certificate could be had, with what was said last.",
        );
        for one in &standings {
            let (failures, words, way) = match &one.trouble {
                Some(trouble) => (trouble.failures, &*trouble.words, trouble.challenge.word()),
                None => (0, "", ""),
            };
            let labels = [
                ("name", one.name.as_str()),
                ("challenge", way),
                ("words", words),
            ];
            figures.sample("", &labels, f64::from(failures));
        }
        figures.family(
            "skerry_certificate_next_try_seconds",
            Kind::Gauge,
            "When it is tried again, in seconds since 1970.",
        );
        for one in &standings {
            if let Some(trouble) = &one.trouble {
                let next = seconds(Some(trouble.next_try_ms));
                figures.sample("", &[("name", one.name.as_str())], next);
            }
        }
    }

    /// What waits to be judged or sent.
    fn queues(&self, figures: &mut Figures) -> Result<(), StoreError> {
        let (federation, inbox) = &self.others;
        let statuses = match federation.is_enabled() {
            true => federation.sender().statuses(),
            false => Vec::new(),
        };
        let pdus: usize = statuses.iter().map(|status| status.pdus).sum();
        let behind = statuses.iter().filter(|s| s.pdus + s.rooms > 0 || s.edus);
        let failing = |standing: &outbox::Standing| standing.failures > 0;
        let away = statuses
            .iter()
            .filter(|s| s.standing.as_ref().is_some_and(failing));
        let snap = self.store.snapshot();
        let dests = outbox::destinations(&snap)?.len();
        for (name, help, value) in [
            (
                "skerry_inbox_pdus",
                "Events of other servers that wait to be judged.",
                inbox.waiting(),
            ),
            (
                "skerry_sender_pdus",
                "Events that wait to be sent to other servers, counted for each of them.",
                pdus,
            ),
            (
                "skerry_sender_servers_behind",
                "Other servers for which something waits.",
                behind.count(),
            ),
            (
                "skerry_sender_servers_failing",
                "Other servers that were not reached the last time.",
                away.count(),
            ),
            (
                "skerry_outbox_destinations",
                "Push gateways, application services and others for which something waits.",
                dests,
            ),
        ] {
            figures.one(name, Kind::Gauge, help, value as f64);
        }
        Ok(())
    }

    fn database(&self, figures: &mut Figures) -> Result<(), StoreError> {
        let stats = self.store.stats()?;
        figures.family(
            "skerry_store_table_bytes",
            Kind::Gauge,
            "About how much of the disk each table takes.",
        );
        for table in stats.tables.iter().filter(|table| table.disk_bytes > 0) {
            let labels = [("table", table.table.name)];
            figures.sample("", &labels, table.disk_bytes as f64);
        }
        let good = matches!(*self.store.health().borrow(), skerry_store::Health::Good);
        let head = self.store.published().borrow().0;
        for (name, help, value) in [
            (
                "skerry_store_writable",
                "1 while the database takes writes.",
                u64::from(good),
            ),
            (
                "skerry_store_position",
                "The newest position that is durable; grows with each change.",
                head,
            ),
            (
                "skerry_store_log_bytes",
                "Size of the write-ahead log.",
                stats.log_bytes,
            ),
            (
                "skerry_store_cache_bytes",
                "Memory of the database's cache, write buffers included.",
                stats.cache_bytes,
            ),
            (
                "skerry_store_write_buffer_bytes",
                "Memory of rows that are not in files yet.",
                stats.write_buffer_bytes,
            ),
        ] {
            figures.one(name, Kind::Gauge, help, value as f64);
        }
        if let Ok(facts) = rustix::fs::statvfs(&self.dir) {
            let free = facts.f_bavail.saturating_mul(facts.f_frsize);
            let help = "Free space where the data lies.";
            figures.one("skerry_disk_free_bytes", Kind::Gauge, help, free as f64);
        }
        Ok(())
    }
}

/// What the process takes; the names are those that programs of all kinds use.
fn process(figures: &mut Figures) {
    let version = env!("CARGO_PKG_VERSION");
    figures.family("skerry_info", Kind::Gauge, "The version that runs.");
    figures.sample("", &[("version", version)], 1.0);
    if let Some(seconds) = cpu_seconds() {
        let help = "Processor time that was used.";
        figures.one("process_cpu_seconds_total", Kind::Counter, help, seconds);
    }
    let resident = allocator::resident_bytes() as f64;
    let help = "Memory in use.";
    figures.one("process_resident_memory_bytes", Kind::Gauge, help, resident);
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        let help = "Open files and connections.";
        figures.one("process_open_fds", Kind::Gauge, help, open.count() as f64);
    }
}

/// Processor time of this process: the fields `utime` and `stime` of `proc(5)`, which count
/// hundredths of a second on Linux, whatever its own clock does.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name before them is in parentheses and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields
        .split_whitespace()
        .skip(11)
        .map_while(|f| f.parse::<u64>().ok());
    let (user, system) = (ticks.next()?, ticks.next()?);
    Some((user + system) as f64 / 100.0)
}
