//! Sockets that are bound and listen.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;
use tokio::net::{TcpListener, UnixListener};

use crate::Tls;
use crate::acme::Acme;
use crate::inherited::Inherited;
use crate::tls::{self, Served, TlsDoor};

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addr {
    /// An address and port; port 0 picks a free one.
    Tcp(SocketAddr),
    /// A Unix socket at this path.
    Unix(PathBuf),
    /// Sockets that whoever started us passed under this name, or with this number.
    Inherited(String),
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Addr::Tcp(addr) => addr.fmt(f),
            Addr::Unix(path) => write!(f, "unix:{}", path.display()),
            Addr::Inherited(name) => write!(f, "fd:{name}"),
        }
    }
}

/// A listener as the configuration describes it.
#[derive(Clone, Debug)]
pub struct ListenerSpec {
    /// Where to listen.
    pub addr: Addr,
    /// The certificate; `None` is plain HTTP. Not for Unix sockets.
    pub tls: Option<Tls>,
    /// The permissions of a Unix socket.
    pub unix_mode: u32,
    /// Whether trusted proxies begin each connection with the PROXY protocol. Others may not.
    pub proxy_protocol: bool,
    /// Answers everything with a permanent redirect to the same path at this origin
    /// (`https://example.org`), instead of what the router says.
    pub redirect: Option<String>,
}

impl ListenerSpec {
    /// Plain HTTP at an address.
    #[must_use]
    pub fn plain(addr: Addr) -> ListenerSpec {
        ListenerSpec {
            addr,
            tls: None,
            unix_mode: 0o600,
            proxy_protocol: false,
            redirect: None,
        }
    }

    /// Whether the certificate can be used, without listening.
    ///
    /// # Errors
    /// [`ProxyError::Tls`].
    pub fn check(&self) -> Result<(), ProxyError> {
        match &self.tls {
            // It comes when it comes.
            None | Some(Tls::Acme) => Ok(()),
            Some(tls) => tls::open(tls, None).map(drop),
        }
    }
}

/// Why a listener could not be set up. The texts are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {reason}")]
    Bind {
        /// Where.
        addr: Addr,
        /// Why not.
        reason: String,
    },
    /// A certificate or key is missing or wrong.
    #[error("{0}")]
    Tls(String),
}

pub(crate) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A socket that listens, with its certificate read.
pub struct Listener {
    pub(crate) socket: Socket,
    pub(crate) tls: Option<TlsDoor>,
    pub(crate) proxy_protocol: bool,
    pub(crate) redirect: Option<String>,
    addr: Addr,
}

impl Listener {
    /// Reads the certificate and starts listening; connections wait until [`crate::serve`].
    ///
    /// # Errors
    /// [`ProxyError`], with the reason in plain words.
    pub async fn bind(spec: &ListenerSpec) -> Result<Listener, ProxyError> {
        Listener::bind_with(spec, None).await
    }

    async fn bind_with(spec: &ListenerSpec, acme: Option<&Acme>) -> Result<Listener, ProxyError> {
        let (socket, addr) = match &spec.addr {
            Addr::Tcp(addr) => {
                let bound = bind_tcp(*addr).await;
                let listener = bound.map_err(|e| failed(spec, &e))?;
                let addr = listener.local_addr().map_err(|e| failed(spec, &e))?;
                (Socket::Tcp(listener), Addr::Tcp(addr))
            }
            Addr::Unix(path) => {
                let bound = bind_unix(path, spec.unix_mode).await;
                let listener = bound.map_err(|e| failed(spec, &e))?;
                (Socket::Unix(listener), spec.addr.clone())
            }
            Addr::Inherited(_) => return Err(not_passed(spec, &[])),
        };
        Listener::on(spec, socket, addr, acme)
    }

    /// The same, where `addr` may name sockets that were passed: a listener for each of that
    /// name. `acme` is where [`Tls::Acme`] gets its certificates.
    ///
    /// # Errors
    /// [`ProxyError`], with the reason in plain words; also when no such socket was passed.
    pub async fn open(
        spec: &ListenerSpec,
        inherited: &mut Inherited,
        acme: Option<&Acme>,
    ) -> Result<Vec<Listener>, ProxyError> {
        let Addr::Inherited(name) = &spec.addr else {
            return Ok(vec![Listener::bind_with(spec, acme).await?]);
        };
        let sockets = inherited.claim(name).map_err(|e| failed(spec, &e))?;
        if sockets.is_empty() {
            return Err(not_passed(spec, &inherited.left()));
        }
        let adopted = |fd| {
            let (socket, addr) = adopt(fd).map_err(|e| failed(spec, &e))?;
            Listener::on(
                spec,
                socket,
                addr.unwrap_or_else(|| spec.addr.clone()),
                acme,
            )
        };
        sockets.into_iter().map(adopted).collect()
    }

    fn on(
        spec: &ListenerSpec,
        socket: Socket,
        addr: Addr,
        acme: Option<&Acme>,
    ) -> Result<Listener, ProxyError> {
        let open = |tls| tls::open(tls, acme);
        Ok(Listener {
            tls: spec.tls.as_ref().map(open).transpose()?,
            proxy_protocol: spec.proxy_protocol,
            redirect: spec.redirect.clone(),
            socket,
            addr,
        })
    }

    /// Where it listens; for port 0 the port that was picked.
    #[must_use]
    pub fn addr(&self) -> &Addr {
        &self.addr
    }

    /// The certificates that it serves, if it speaks TLS.
    #[must_use]
    pub fn served(&self) -> Option<Served> {
        let tls = self.tls.as_ref()?;
        Some(Served(Arc::clone(&tls.certificates)))
    }

    /// Whether it speaks TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Addr::Unix(path) = &self.addr {
            // Left behind, it would only be replaced at the next start.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn failed(spec: &ListenerSpec, error: &io::Error) -> ProxyError {
    ProxyError::Bind {
        addr: spec.addr.clone(),
        reason: plain_words(error),
    }
}

fn not_passed(spec: &ListenerSpec, others: &[String]) -> ProxyError {
    let reason = if others.is_empty() {
        "no sockets were passed to this process (LISTEN_FDS), as systemd does for a .socket unit"
            .to_owned()
    } else {
        let others = others.join(", ");
        format!("no socket of that name was passed (LISTEN_FDNAMES), but: {others}")
    };
    ProxyError::Bind {
        addr: spec.addr.clone(),
        reason,
    }
}

/// A passed socket, and its address if it is one of TCP.
fn adopt(fd: OwnedFd) -> io::Result<(Socket, Option<Addr>)> {
    let tcp = std::net::TcpListener::from(fd);
    if let Ok(addr) = tcp.local_addr() {
        tcp.set_nonblocking(true)?;
        return Ok((
            Socket::Tcp(TcpListener::from_std(tcp)?),
            Some(Addr::Tcp(addr)),
        ));
    }
    let unix = std::os::unix::net::UnixListener::from(OwnedFd::from(tcp));
    unix.local_addr()?;
    unix.set_nonblocking(true)?;
    Ok((Socket::Unix(UnixListener::from_std(unix)?), None))
}

/// Where the machine has no IPv6, all of its addresses are those of IPv4.
async fn bind_tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let everywhere = addr.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    match TcpListener::bind(addr).await {
        Err(error)
            if everywhere && error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) =>
        {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, addr.port())).await
        }
        bound => bound,
    }
}

/// Binds beside the wanted path, sets the permissions and renames, so that the socket is never
/// there with wider permissions, and a file left by a killed process is replaced.
async fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if tokio::net::UnixStream::connect(path).await.is_ok() {
        return Err(io::Error::from(io::ErrorKind::AddrInUse));
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(name);
    let _ = std::fs::remove_file(&beside);
    let listener = UnixListener::bind(&beside)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(&beside, path)?;
    Ok(listener)
}

fn plain_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there already (is Skerry running twice?)".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied (ports below 1024 need CAP_NET_BIND_SERVICE)".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        io::ErrorKind::NotFound => "the directory does not exist".to_owned(),
        _ => error.to_string(),
    }
}
