//! `skerry doctor`: looks at the set-up from all sides and says what is wrong and what to do.
//!
//! Each file looks at one thing: first functions that judge (over values, without any machine),
//! then those that fetch the values. Nothing is changed, no secret is printed, and nobody is
//! asked whom the configuration does not name.

mod acme;
pub(crate) mod certificate;
mod clock;
mod data;
mod names;
mod outside;
mod process;
mod services;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::Uri;
use ruma_common::ServerName;
use serde_json::{Value, json};
use skerry_remote::http::{Client, ClientOptions, Guard, Resolve, SystemResolver, Tls};
use skerry_remote::inspect::{PATIENCE, Roots};

use crate::config::Config;

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but somebody should look at it.
    Warn,
    /// It does not work.
    Wrong,
    /// It cannot be told from here.
    Unknown,
}

impl Verdict {
    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Wrong => "wrong",
            Verdict::Unknown => "unknown",
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What was looked at.
    pub(crate) check: &'static str,
    pub(crate) verdict: Verdict,
    /// How it is.
    pub(crate) what: String,
    /// What to do; empty where nothing has to be done.
    pub(crate) advice: String,
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, what: String, advice: &str) -> Finding {
        Finding {
            check,
            verdict,
            what,
            advice: advice.to_owned(),
        }
    }

    pub(crate) fn ok(check: &'static str, what: impl Into<String>) -> Finding {
        Finding::new(check, Verdict::Ok, what.into(), "")
    }

    pub(crate) fn warn(check: &'static str, what: impl Into<String>, advice: &str) -> Finding {
        Finding::new(check, Verdict::Warn, what.into(), advice)
    }

    pub(crate) fn wrong(check: &'static str, what: impl Into<String>, advice: &str) -> Finding {
        Finding::new(check, Verdict::Wrong, what.into(), advice)
    }

    pub(crate) fn unknown(check: &'static str, what: impl Into<String>, advice: &str) -> Finding {
        Finding::new(check, Verdict::Unknown, what.into(), advice)
    }

    /// The finding as one line, whatever others wrote into it.
    pub(crate) fn line(&self) -> String {
        let mut line = format!("{:<8}{:<13}{}", self.verdict.word(), self.check, self.what);
        if !self.advice.is_empty() {
            line.push_str(": ");
            line.push_str(&self.advice);
        }
        line.chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect()
    }

    /// The finding for machines.
    pub(crate) fn json(&self) -> Value {
        json!({
            "check": self.check,
            "verdict": self.verdict.word(),
            "what": self.what,
            "advice": self.advice,
        })
    }
}

/// What the checks use to look at the world; a seam for tests.
pub(crate) struct Tools {
    pub(crate) client: Client,
    pub(crate) resolver: Arc<dyn Resolve>,
    /// Whose certificates are believed.
    pub(crate) roots: Roots,
    /// Now, in ms since the epoch.
    pub(crate) now_ms: u64,
}

impl Tools {
    /// What the system offers, and the configuration adds.
    ///
    /// # Errors
    /// What cannot be used, in words for the operator.
    pub(crate) fn new(config: &Config, now_ms: u64) -> Result<Tools, String> {
        let ca_file = config.http_client.ca_file.as_deref();
        let tls = Tls::new(ca_file).map_err(|e| e.to_string())?;
        Tools::with(Arc::new(SystemResolver::new()), tls, now_ms)
    }

    fn with(resolver: Arc<dyn Resolve>, tls: Tls, now_ms: u64) -> Result<Tools, String> {
        let roots = tls.roots()?;
        // All addresses are the operator's own.
        let mut options = ClientOptions::new(Guard::open(), Arc::clone(&resolver), Arc::new(tls));
        options.connect_timeout = PATIENCE;
        Ok(Tools {
            client: Client::new(options),
            resolver,
            roots,
            now_ms,
        })
    }
}

/// A URL's parts as far as they matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// A name, or an address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
}

impl Origin {
    /// Of a URL with one of the schemes of HTTP and WebSocket.
    pub(crate) fn of(url: &str) -> Option<Origin> {
        let uri: Uri = url.parse().ok()?;
        let tls = matches!(uri.scheme_str()?, "https" | "wss");
        Some(Origin {
            host: bare(uri.host()?),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            tls,
        })
    }

    /// Whether only this machine can mean it.
    pub(crate) fn is_here(&self) -> bool {
        is_here(&self.host)
    }
}

/// Whether a host is this machine, whoever asks.
pub(crate) fn is_here(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn bare(host: &str) -> String {
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned()
}

/// The host of a server name.
pub(crate) fn host_of(server_name: &str) -> String {
    ServerName::parse(server_name).map_or_else(|_| server_name.to_owned(), |name| bare(name.host()))
}

/// The findings about a configuration that cannot be read.
pub(crate) fn unread(error: &str) -> Finding {
    let advice = "mend this first; nothing else can be looked at without it";
    Finding::wrong("config", error, advice)
}

/// Looks at everything; `tell` gets each finding as soon as it is there.
pub(crate) async fn examine(
    config: &Config,
    tools: &Tools,
    time_from: Option<&str>,
    tell: &mut dyn FnMut(Finding),
) {
    configuration(config).into_iter().for_each(&mut *tell);
    data::look(config).into_iter().for_each(&mut *tell);
    let running = process::look(config).await;
    tell(running.finding.clone());
    for spec in &config.listen {
        tell(process::port(spec, &running).await);
        if let Some(tls) = &spec.tls {
            let found = certificate::listener(config, tools, spec, tls).await;
            found.into_iter().for_each(&mut *tell);
        }
    }
    acme::look(config, tools, tell).await;
    names::look(config, tools, tell).await;
    let mut dates = Vec::new();
    outside::base_url(config, tools, &mut dates, tell).await;
    outside::well_known(config, tools, &mut dates, tell).await;
    tell(clock::look(tools, time_from, dates).await);
    services::look(config, tools, tell).await;
}

/// It could be read, so nothing in it is wrong; some of it may do nothing.
fn configuration(config: &Config) -> Vec<Finding> {
    let mut found = vec![Finding::ok(
        "config",
        format!(
            "it is good; the server is {} and clients use {}",
            config.server_name, config.base_url
        ),
    )];
    let advice = "take it out, or set media.backend to \"s3\"";
    found.extend(config.ignored.iter().map(|key| {
        let what = format!("{key} is set, but does nothing as the other options stand");
        Finding::warn("config", what, advice)
    }));
    found
}
