//! Sockets that are bound and listen.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::{TcpListener, UnixListener};

use crate::{Tls, tls};

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addr {
    /// An address and port; port 0 picks a free one.
    Tcp(SocketAddr),
    /// A Unix socket at this path.
    Unix(PathBuf),
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Addr::Tcp(addr) => addr.fmt(f),
            Addr::Unix(path) => write!(f, "unix:{}", path.display()),
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
}

impl ListenerSpec {
    /// Whether the certificate can be used, without listening.
    ///
    /// # Errors
    /// [`ProxyError::Tls`].
    pub fn check(&self) -> Result<(), ProxyError> {
        self.tls
            .as_ref()
            .map(tls::server_config)
            .transpose()
            .map(drop)
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
    pub(crate) tls: Option<Arc<ServerConfig>>,
    addr: Addr,
}

impl Listener {
    /// Reads the certificate and starts listening; connections wait until [`crate::serve`].
    ///
    /// # Errors
    /// [`ProxyError`], with the reason in plain words.
    pub async fn bind(spec: &ListenerSpec) -> Result<Listener, ProxyError> {
        let tls = spec.tls.as_ref().map(tls::server_config).transpose()?;
        let failed = |e: &io::Error| ProxyError::Bind {
            addr: spec.addr.clone(),
            reason: plain_words(e),
        };
        let (socket, addr) = match &spec.addr {
            Addr::Tcp(addr) => {
                let listener = TcpListener::bind(addr).await.map_err(|e| failed(&e))?;
                let bound = listener.local_addr().map_err(|e| failed(&e))?;
                (Socket::Tcp(listener), Addr::Tcp(bound))
            }
            Addr::Unix(path) => {
                let listener = bind_unix(path, spec.unix_mode)
                    .await
                    .map_err(|e| failed(&e))?;
                (Socket::Unix(listener), spec.addr.clone())
            }
        };
        Ok(Listener { socket, tls, addr })
    }

    /// Where it listens; for port 0 the port that was picked.
    #[must_use]
    pub fn addr(&self) -> &Addr {
        &self.addr
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
