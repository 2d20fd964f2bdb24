//! Whether the server runs, and whether its doors are open.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::StatusCode;
use skerry_proxy::{Addr, ListenerSpec};
use tokio::net::UnixStream;

use skerry_remote::inspect as probe;

use super::{Finding, PATIENCE};
use crate::cli::line;
use crate::config::Config;

const SERVER: &str = "server";
const PORT: &str = "port";

/// Whether the server runs.
pub(crate) struct Running {
    pub(crate) finding: Finding,
    /// None where it cannot be told.
    pub(crate) runs: Option<bool>,
}

/// Asks at the admin socket.
pub(crate) async fn look(config: &Config) -> Running {
    let path = config.admin_socket();
    let mut stream = match UnixStream::connect(&path).await {
        Ok(stream) => stream,
        Err(error) => return absent(error.kind(), &format!("{}: {error}", path.display())),
    };
    let asked = tokio::time::timeout(PATIENCE, line::health(&mut stream)).await;
    let asked = asked.unwrap_or_else(|_| Err("no answer in time".to_owned()));
    Running {
        finding: health(asked),
        runs: Some(true),
    }
}

/// What it means that the admin socket cannot be used.
pub(crate) fn absent(kind: ErrorKind, error: &str) -> Running {
    if kind == ErrorKind::PermissionDenied {
        let advice = "run this as the user that skerry runs as";
        return Running {
            finding: Finding::unknown(SERVER, error, advice),
            runs: None,
        };
    }
    let advice = "start it (skerry serve, or systemctl start skerry) and read its log if it ends";
    Running {
        finding: Finding::wrong(SERVER, "it does not run", advice),
        runs: Some(false),
    }
}

/// Judges what the server says of itself.
pub(crate) fn health(asked: Result<(StatusCode, String), String>) -> Finding {
    match asked {
        Ok((status, _)) if status.is_success() => Finding::ok(SERVER, "it runs and is well"),
        Ok((_, said)) => {
            let advice = "it answers reads, but takes nothing new; make room or look at the disk, \
                          then at the log";
            Finding::wrong(SERVER, format!("it is not well: {said}"), advice)
        }
        Err(error) => {
            let what = format!("it runs, but does not answer: {error}");
            Finding::wrong(SERVER, what, "look at its log; a restart may help")
        }
    }
}

/// Where to connect to reach what listens at an address; none where the port is not known.
pub(crate) fn reachable(address: SocketAddr) -> Option<SocketAddr> {
    if address.port() == 0 {
        return None;
    }
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Some(SocketAddr::new(ip, address.port()))
}

/// Looks whether a listener can be connected to.
pub(crate) async fn port(spec: &ListenerSpec, running: &Running) -> Finding {
    let connected = match &spec.addr {
        Addr::Tcp(address) => match reachable(*address) {
            Some(address) => probe::look(address, None).await.map(drop),
            None => {
                let what = format!("{}: any free port is taken", spec.addr);
                let advice = "name a port, so that clients find it";
                return Finding::unknown(PORT, what, advice);
            }
        },
        Addr::Unix(path) => {
            let connected = UnixStream::connect(path).await;
            connected
                .map(drop)
                .map_err(|e| probe::Unseen::NoConnection(e.to_string()))
        }
        Addr::Inherited(_) => {
            let what = format!("{}: whoever starts skerry opens it", spec.addr);
            let advice = "look at ListenStream= of the .socket unit";
            return Finding::unknown(PORT, what, advice);
        }
    };
    let connected = connected.map_err(|e| e.to_string());
    judge_port(&spec.addr.to_string(), running.runs, connected)
}

/// Judges a listener by whether the server runs and whether somebody answered.
pub(crate) fn judge_port(
    place: &str,
    runs: Option<bool>,
    connected: Result<(), String>,
) -> Finding {
    match (connected, runs) {
        (Ok(()), Some(false)) => {
            let what = format!("{place}: another program listens there, not skerry");
            let advice = "stop it, or give skerry another [[listen]] addr (ss -ltnp names it)";
            Finding::wrong(PORT, what, advice)
        }
        (Ok(()), _) => Finding::ok(PORT, format!("{place} takes connections")),
        (Err(error), Some(true)) => {
            let what = format!("{place}: nobody listens there: {error}");
            let advice = "was the configuration changed since the start? Restart skerry, and \
                          look whether a firewall closes the port";
            Finding::wrong(PORT, what, advice)
        }
        (Err(error), _) => {
            let what = format!("{place}: nothing listens there: {error}");
            Finding::wrong(PORT, what, "start skerry")
        }
    }
}
