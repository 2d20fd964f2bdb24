//! Certificates that are got from a CA: how it stands with each name, and whether a name can have
//! one in the way that is tried.

use std::net::IpAddr;

use skerry_proxy::{Challenge, ChallengeKind, Standing, Trouble, standings};

use super::{Finding, Tools, names};
use crate::cli::show;
use crate::config::{Acme, Config};

const CHECK: &str = "acme";

/// Looks at the names that certificates are got for.
pub(super) async fn look(config: &Config, tools: &Tools, tell: &mut dyn FnMut(Finding)) {
    let Some(acme) = &config.acme else {
        return;
    };
    let settings = acme.settings.clone();
    let found = tokio::task::spawn_blocking(move || standings(&settings)).await;
    for standing in found.unwrap_or_default() {
        tell(judge(&standing, tools.now_ms));
        let found = names::addresses(tools, &standing.name).await;
        let finding = elsewhere(acme, &standing.name, &found.unwrap_or_default());
        finding.into_iter().for_each(&mut *tell);
    }
}

/// Judges how it stands with a name.
pub(super) fn judge(standing: &Standing, now_ms: u64) -> Finding {
    let name = &standing.name;
    match (standing.until_ms, &standing.trouble) {
        (None, None) => {
            let what = format!("{name}: there is no certificate yet");
            Finding::unknown(CHECK, what, "it is ordered as soon as skerry runs")
        }
        (Some(until), None) if until > now_ms => {
            let what = format!("{name}: there is a certificate until {}", show::day(until));
            Finding::ok(CHECK, what)
        }
        (Some(until), None) => {
            let what = format!("{name}: the certificate ended on {}", show::day(until));
            Finding::wrong(CHECK, what, "start skerry, which has it renewed")
        }
        (Some(until), Some(trouble)) if until > now_ms => {
            let what = format!(
                "{name}: the certificate ends on {} and is not renewed: {}",
                show::day(until),
                said(trouble, now_ms)
            );
            Finding::warn(CHECK, what, advice(trouble.challenge))
        }
        (_, Some(trouble)) => {
            let what = format!("{name}: there is no certificate: {}", said(trouble, now_ms));
            Finding::wrong(CHECK, what, advice(trouble.challenge))
        }
    }
}

/// The CA's words, and when it is asked again.
fn said(trouble: &Trouble, now_ms: u64) -> String {
    let minutes = trouble.next_try_ms.saturating_sub(now_ms) / 60_000;
    format!(
        "\"{}\" ({}, {} times; the next try is in {minutes} min)",
        trouble.words,
        trouble.challenge.word(),
        trouble.failures
    )
}

fn advice(kind: ChallengeKind) -> &'static str {
    match kind {
        ChallengeKind::TlsAlpn01 => {
            "the CA has to reach skerry at port 443 of the name's address: look at DNS (A and \
             AAAA), at the router and at the firewall; then a SIGHUP has it tried sooner"
        }
        ChallengeKind::Http01 => {
            "the CA has to reach skerry at port 80 of the name's address: look at DNS (A and \
             AAAA), at the router and at the firewall; then a SIGHUP has it tried sooner"
        }
        ChallengeKind::Dns01 => {
            "look at what acme.dns_hook does: the record has to be seen by everybody when it ends"
        }
    }
}

/// What it means that a name's address is a proxy's.
pub(super) fn elsewhere(acme: &Acme, name: &str, found: &[IpAddr]) -> Option<Finding> {
    let settings = &acme.settings;
    let proxy = found
        .iter()
        .find(|address| settings.elsewhere.contains(**address))?;
    let what = format!("{name} is at {proxy}, which is a proxy's");
    Some(match settings.challenge {
        Challenge::Only(ChallengeKind::TlsAlpn01) => Finding::wrong(
            CHECK,
            format!("{what}: tls-alpn-01 never comes to skerry"),
            "set acme.challenge to \"auto\", \"http-01\" or \"dns-01\", or use an origin \
             certificate of the proxy's: tls = { cert, key }",
        ),
        _ => Finding::ok(
            CHECK,
            format!(
                "{what}: certificates come by http-01 or dns-01; an origin certificate does \
                     as well"
            ),
        ),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::Verdict;
    use super::*;

    const NOW: u64 = 1_800_000_000_000;
    const DAY: u64 = 86_400_000;

    fn standing(until_ms: Option<u64>, words: Option<&str>) -> Standing {
        Standing {
            name: "example.org".to_owned(),
            until_ms,
            trouble: words.map(|words| Trouble {
                failures: 3,
                challenge: ChallengeKind::Http01,
                words: words.to_owned(),
                next_try_ms: NOW + 600_000,
            }),
        }
    }

    #[test]
    fn how_it_stands() {
        let judged = |until, words| judge(&standing(until, words), NOW).verdict;
        assert_eq!(judged(None, None), Verdict::Unknown);
        assert_eq!(judged(Some(NOW + DAY), None), Verdict::Ok);
        assert_eq!(judged(Some(NOW - DAY), None), Verdict::Wrong);
        assert_eq!(judged(Some(NOW + DAY), Some("no")), Verdict::Warn);
        assert_eq!(judged(Some(NOW - DAY), Some("no")), Verdict::Wrong);
        let line = judge(&standing(None, Some("Connection refused\nx")), NOW).line();
        for part in ["Connection refused x", "in 10 min", "http-01", "port 80"] {
            assert!(line.contains(part), "{line}");
        }
    }

    #[test]
    fn behind_somebody_elses_proxy() {
        let text = |challenge: &str| {
            let text = format!(
                "server_name = \"example.org\"\n[acme]\nemail = \"me@example.org\"\n\
                 challenge = \"{challenge}\""
            );
            let config = Config::from_text(&text, std::iter::empty()).unwrap();
            config.acme.unwrap()
        };
        let at = |challenge: &str, address: &str| {
            let found = elsewhere(&text(challenge), "example.org", &[address.parse().unwrap()]);
            found.map(|finding| finding.verdict)
        };
        assert_eq!(at("auto", "192.0.2.1"), None);
        assert_eq!(at("auto", "104.16.0.1"), Some(Verdict::Ok));
        assert_eq!(at("tls-alpn-01", "104.16.0.1"), Some(Verdict::Wrong));
    }
}
