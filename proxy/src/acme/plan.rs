//! When and how a certificate is ordered. Pure: times are in ms since the epoch and come from
//! outside.

use serde::{Deserialize, Serialize};

use super::issuer::{Advice, Failure, Stage};
use super::{AcmeSettings, Challenge};
use crate::tls::facts::Facts;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
/// So many failed validations of a name are risked within an hour, and within a day. Let's Encrypt
/// locks a name out after five in an hour.
const HOUR_MAX: usize = 3;
const DAY_MAX: usize = 12;
/// After the first three failed validations somebody has to do something; looking every minute
/// whether they did would only use up what the CA allows.
const PATIENT_MS: u64 = 150 * MINUTE_MS;
/// The longest wait while the CA cannot be reached.
const UNREACHED_MAX_MS: u64 = HOUR_MS;
/// How long a CA that says it was asked too often, and not for how long, is left alone.
const LIMITED_MS: u64 = HOUR_MS;
/// The longest that a CA is obeyed that wants to be left alone.
const OBEY_MAX_MS: u64 = 7 * DAY_MS;
/// So many failures in a row, and the other way is tried.
const SWITCH_AFTER: u32 = 2;

/// A way to show that a name is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// By TLS at port 443 (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// By HTTP at port 80 (RFC 8555, 8.3).
    #[serde(rename = "http-01")]
    Http01,
    /// By a record in DNS (RFC 8555, 8.4).
    #[serde(rename = "dns-01")]
    Dns01,
}

impl Kind {
    /// Its name in the specification.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Kind::TlsAlpn01 => "tls-alpn-01",
            Kind::Http01 => "http-01",
            Kind::Dns01 => "dns-01",
        }
    }
}

/// The ways that may be gone for a name, the best first; `elsewhere` where its address is a
/// proxy's, which speaks TLS itself.
pub(super) fn kinds(settings: &AcmeSettings, elsewhere: bool) -> &'static [Kind] {
    match settings.challenge {
        Challenge::Only(Kind::TlsAlpn01) => &[Kind::TlsAlpn01],
        Challenge::Only(Kind::Http01) => &[Kind::Http01],
        Challenge::Only(Kind::Dns01) => &[Kind::Dns01],
        Challenge::Auto if settings.dns_hook.is_some() => &[Kind::Dns01],
        Challenge::Auto if elsewhere => &[Kind::Http01],
        Challenge::Auto => &[Kind::TlsAlpn01, Kind::Http01],
    }
}

/// What happened to a name so far; survives restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct History {
    /// Failed validations of the last day. One that is under way is among them: who is killed
    /// meanwhile does not know how it ended.
    pub(super) failed_at_ms: Vec<u64>,
    /// Failures of any kind in a row.
    pub(super) failures: u32,
    /// How it was tried last.
    pub(super) challenge: Option<Kind>,
    /// Failures of that in a row.
    pub(super) same: u32,
    /// Our own wait after a failure.
    pub(super) wait_until_ms: u64,
    /// The CA's wish to be left alone.
    pub(super) obey_until_ms: u64,
    /// What was said at the last failure; none after a success.
    pub(super) words: Option<String>,
}

impl History {
    /// When it may be tried next.
    pub(super) fn next_try_ms(&self, now_ms: u64) -> u64 {
        self.wait_until_ms.max(self.allowed_ms(now_ms))
    }

    /// When it may be tried next if somebody asks for it: no rule of the CA's is broken.
    pub(super) fn allowed_ms(&self, now_ms: u64) -> u64 {
        let after = |most: usize, span: u64| {
            let recent = self.failed_at_ms.iter().filter(|at| **at + span > now_ms);
            let mut recent: Vec<u64> = recent.copied().collect();
            recent.sort_unstable();
            // One more is allowed once the last that fills the number is out of the span.
            let filling = recent.len().checked_sub(most).and_then(|n| recent.get(n));
            filling.map_or(0, |at| at + span)
        };
        let windows = after(HOUR_MAX, HOUR_MS).max(after(DAY_MAX, DAY_MS));
        self.obey_until_ms.max(windows)
    }

    /// Which way to go.
    pub(super) fn choose(&self, kinds: &[Kind]) -> Kind {
        let first = kinds.first().copied().unwrap_or(Kind::Http01);
        let Some(place) = kinds.iter().position(|kind| Some(*kind) == self.challenge) else {
            return first;
        };
        let place = match self.same >= SWITCH_AFTER {
            true => (place + 1) % kinds.len().max(1),
            false => place,
        };
        kinds.get(place).copied().unwrap_or(first)
    }

    /// An attempt begins, which may end without a word.
    pub(super) fn begin(&mut self, kind: Kind, now_ms: u64) {
        self.failed_at_ms.retain(|at| *at + DAY_MS > now_ms);
        self.failed_at_ms.push(now_ms);
        if self.challenge != Some(kind) {
            (self.challenge, self.same) = (Some(kind), 0);
        }
    }

    /// The attempt was given up before it ended, or did not come so far as to be counted.
    pub(super) fn undo(&mut self) {
        self.failed_at_ms.pop();
    }

    /// The attempt failed.
    pub(super) fn fail(&mut self, failure: &Failure, first_wait_ms: u64, now_ms: u64) {
        self.failures = self.failures.saturating_add(1);
        let doubled = first_wait_ms.saturating_mul(1 << (self.failures - 1).min(20));
        let wait = match failure.stage {
            Stage::Validation => {
                self.same += 1;
                let many = self.failures > u32::try_from(HOUR_MAX).unwrap_or(u32::MAX);
                if many {
                    PATIENT_MS
                } else {
                    doubled.min(PATIENT_MS)
                }
            }
            Stage::NotOffered => {
                self.undo();
                self.same = SWITCH_AFTER;
                doubled.min(UNREACHED_MAX_MS)
            }
            Stage::Before => {
                self.undo();
                doubled.min(UNREACHED_MAX_MS)
            }
        };
        self.wait_until_ms = now_ms + wait;
        if let Some(after) = failure.retry_after {
            let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            self.obey_until_ms = now_ms + after.min(OBEY_MAX_MS);
        }
        self.words = Some(failure.words.clone());
    }

    /// There is a certificate.
    pub(super) fn succeed(&mut self) {
        self.undo();
        self.failures = 0;
        self.same = 0;
        self.wait_until_ms = 0;
        self.obey_until_ms = 0;
        self.words = None;
    }
}

/// How long a CA is left alone that refused because it was asked too often.
pub(super) const fn limited_ms() -> u64 {
    LIMITED_MS
}

/// When a certificate is renewed: when two thirds of its time are over, or when its CA says; by
/// `jitter` (from 0 to 1) a little sooner or later, so that not all come at once.
pub(super) fn renew_ms(facts: &Facts, advice: Option<&Advice>, jitter: f64) -> u64 {
    let part = |of: u64, share: f64| (of as f64 * share) as u64;
    let life = facts.until_ms.saturating_sub(facts.from_ms);
    match advice {
        Some(advice) => {
            let window = advice.to_ms.saturating_sub(advice.from_ms);
            let latest = facts.until_ms.saturating_sub(life / 10);
            (advice.from_ms + part(window, jitter)).min(latest)
        }
        None => facts.from_ms + part(life, 2.0 / 3.0) - part(life, jitter / 20.0),
    }
}

/// A number from 0 to 1 that is the same for the same certificate, and another for another.
pub(super) fn jitter(certificate: &[u8]) -> f64 {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    let mut head = [0; 4];
    for (place, byte) in head.iter_mut().zip(digest.as_ref()) {
        *place = *byte;
    }
    f64::from(u32::from_be_bytes(head)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
