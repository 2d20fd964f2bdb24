//! What else the configuration relies on: mail, relays, LiveKit, application services.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use skerry_remote::mail::{MailOptions, MailTls};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::certificate::{self, Eyes};
use skerry_remote::inspect as probe;

use super::{Finding, Origin, Tools, names};
use crate::config::{Config, LiveKit, Turn, TurnLogin};
use crate::secrets;

const MAIL: &str = "email";
const TURN: &str = "turn";
const LIVEKIT: &str = "livekit";
const BRIDGES: &str = "appservices";
/// Mail servers keep strangers waiting.
const GREETING: Duration = Duration::from_secs(20);
/// What LiveKit asks of its secrets, in bytes.
const LIVEKIT_SECRET: usize = 32;

/// Looks at all of them.
pub(super) async fn look(config: &Config, tools: &Tools, tell: &mut dyn FnMut(Finding)) {
    if let Some(options) = &config.mail {
        mail(options, tools, tell).await;
    }
    if let Some(relays) = &config.calls.turn {
        turn(relays, config, tools, tell).await;
    }
    if let Some(server) = &config.calls.livekit {
        livekit(server, config, tools, tell).await;
    }
    // Those that cannot be read are an error of the configuration.
    for service in &config.appservices {
        let place = service.url.as_deref().unwrap_or("nothing is sent to it");
        let what = format!("{}: its registration is good; {place}", service.id);
        tell(Finding::ok(BRIDGES, what));
    }
}

async fn mail(options: &MailOptions, tools: &Tools, tell: &mut dyn FnMut(Finding)) {
    let place = format!("{}:{}", options.host, options.port);
    if let Err(error) = options.check() {
        return tell(Finding::wrong(MAIL, error.to_string(), "mend email.from"));
    }
    if options.tls == MailTls::Plain && options.login.is_some() && !super::is_here(&options.host) {
        let what = format!("{place}: the password goes there without TLS");
        tell(Finding::warn(MAIL, what, "set email.tls to \"starttls\""));
    }
    let greeted = match first(tools, &options.host, options.port).await {
        Ok(address) if options.tls == MailTls::Tls => {
            let seen = probe::look(address, Some(&options.host)).await;
            seen.map(|seen| {
                let names = [options.host.as_str()];
                let found = probe::judge(&seen.chain, &names, &tools.roots, tools.now_ms);
                tell(certificate::finding(&found, &place, &names, Eyes::Clients));
            })
            .map_err(|e| e.to_string())
        }
        Ok(address) => greeting(address).await,
        Err(error) => Err(error),
    };
    tell(match greeted {
        Ok(()) => Finding::ok(MAIL, format!("{place} takes connections")),
        Err(error) => {
            let advice = "look at email.host, port and tls; many providers close port 25";
            Finding::wrong(MAIL, format!("{place}: {error}"), advice)
        }
    });
}

/// Reads a mail server's first words (RFC 5321, 3.1).
async fn greeting(address: SocketAddr) -> Result<(), String> {
    let talk = async {
        let mut stream = TcpStream::connect(address).await?;
        let mut word = [0; 4];
        stream.read_exact(&mut word).await?;
        Ok(word)
    };
    match &probe::in_time(talk, GREETING).await? {
        b"220 " | b"220-" => Ok(()),
        _ => Err(
            "what answers there is no mail server that takes mail, or it wants TLS at \
                  once (email.tls = \"tls\")"
                .to_owned(),
        ),
    }
}

/// Where to connect first for a host.
async fn first(tools: &Tools, host: &str, port: u16) -> Result<SocketAddr, String> {
    let found = names::addresses(tools, host).await?;
    let address = found.first().ok_or("it has no address")?;
    Ok(SocketAddr::new(*address, port))
}

async fn turn(relays: &Turn, config: &Config, tools: &Tools, tell: &mut dyn FnMut(Finding)) {
    let file = match &relays.login {
        TurnLogin::Secret(file) => file,
        TurnLogin::Fixed { password_file, .. } => password_file,
    };
    if let Err(finding) = readable(TURN, file) {
        tell(finding);
    }
    let local = Origin::of(&config.base_url).is_some_and(|origin| origin.is_here());
    for uri in &relays.uris {
        let relay = match relay(uri) {
            Ok(relay) => relay,
            Err(why) => {
                let advice = "write it as turn:turn.example.org:3478?transport=udp";
                tell(Finding::wrong(TURN, format!("{uri}: {why}"), advice));
                continue;
            }
        };
        let address = match first(tools, &relay.host, relay.port).await {
            Ok(address) => address,
            Err(error) => {
                let what = format!("{uri}: {error}");
                tell(Finding::wrong(TURN, what, "mend the name in turn.uris"));
                continue;
            }
        };
        if !names::is_public(address.ip()) && !local {
            let what = format!("{uri} is at {}, a private address", address.ip());
            tell(Finding::warn(
                TURN,
                what,
                "calls from elsewhere need a public one",
            ));
            continue;
        }
        if relay.tcp
            && let Err(error) = probe::look(address, None).await
        {
            let advice = "does the relay run? Perhaps it can only be reached from outside";
            tell(Finding::unknown(TURN, format!("{uri}: {error}"), advice));
            continue;
        }
        tell(Finding::ok(
            TURN,
            format!("{uri} leads to {}", address.ip()),
        ));
    }
}

/// A relay as its URI names it (RFC 7064, 7065).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relay {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Whether it can be tried by connecting.
    pub(crate) tcp: bool,
}

/// Reads the URI of a relay.
pub(crate) fn relay(uri: &str) -> Result<Relay, &'static str> {
    let (scheme, rest) = uri.split_once(':').ok_or("it has no scheme")?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    if place.starts_with("//") {
        return Err("no slashes belong after the colon");
    }
    let tls = scheme.ends_with('s');
    let transport = match query {
        "" => None,
        "transport=udp" => Some("udp"),
        "transport=tcp" => Some("tcp"),
        _ => return Err("only ?transport=udp and ?transport=tcp may follow"),
    };
    // Of an IPv6 address in brackets, the colons within are not the port's.
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().map_err(|_| "its port is not a number")?)
        }
        _ => (place, if tls { 5349 } else { 3478 }),
    };
    let host = super::bare(host);
    if host.is_empty() {
        return Err("it names no host");
    }
    let tcp = transport.map_or(tls, |transport| transport == "tcp");
    Ok(Relay { host, port, tcp })
}

async fn livekit(server: &LiveKit, config: &Config, tools: &Tools, tell: &mut dyn FnMut(Finding)) {
    match readable(LIVEKIT, &server.secret_file) {
        Err(finding) => tell(finding),
        Ok(secret) if secret.len() < LIVEKIT_SECRET => {
            let file = server.secret_file.display();
            let what = format!("the secret in {file} is shorter than {LIVEKIT_SECRET} bytes");
            let advice = "LiveKit refuses that; make a longer one and give it to both";
            tell(Finding::warn(LIVEKIT, what, advice));
        }
        Ok(_) => {}
    }
    let url = &server.url;
    let Some(origin) = Origin::of(url) else {
        let what = format!("{url} is not a URL");
        return tell(Finding::wrong(LIVEKIT, what, "mend livekit.url"));
    };
    if !origin.tls && config.base_url.starts_with("https://") {
        let what = format!("{url} is without TLS, so browsers refuse it");
        let advice = "put a proxy with TLS in front of it and use wss://";
        return tell(Finding::wrong(LIVEKIT, what, advice));
    }
    let seen = match first(tools, &origin.host, origin.port).await {
        Ok(address) => probe::look(address, origin.tls.then_some(&origin.host)).await,
        Err(error) => {
            let what = format!("{url}: {error}");
            return tell(Finding::wrong(
                LIVEKIT,
                what,
                "mend the name in livekit.url",
            ));
        }
    };
    match seen {
        Err(error) => {
            let advice = "does it run? Perhaps it can only be reached from outside";
            tell(Finding::unknown(LIVEKIT, format!("{url}: {error}"), advice));
        }
        Ok(seen) => {
            if origin.tls {
                let names = [origin.host.as_str()];
                let found = probe::judge(&seen.chain, &names, &tools.roots, tools.now_ms);
                tell(certificate::finding(&found, url, &names, Eyes::Clients));
            }
            tell(Finding::ok(LIVEKIT, format!("{url} takes connections")));
        }
    }
}

/// A secret from its file, or what is wrong with that.
pub(crate) fn readable(check: &'static str, file: &Path) -> Result<String, Finding> {
    secrets::from_file(file).map_err(|error| {
        let advice = "write the secret into it, readable for the user that skerry runs as";
        Finding::wrong(check, error.to_string(), advice)
    })
}
