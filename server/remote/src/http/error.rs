//! Why a request had no answer.

use std::net::IpAddr;
use std::time::Duration;

/// Why a request to another machine had no answer, in words for the operator.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The URL cannot be used: no host, another scheme than http and https, or not a URL.
    #[error("{0:?} is not an http or https URL")]
    Url(String),
    /// The request cannot be written: a header with a line break, for example.
    #[error("the request cannot be sent: {0}")]
    Request(String),
    /// The address lies in a network that we do not talk to.
    #[error(
        "{host} has the address {address}, which is not on the public internet; \
         name it in the configuration if it shall be reached"
    )]
    Refused {
        /// The host asked for.
        host: String,
        /// Its address.
        address: IpAddr,
    },
    /// The name has no address, or could not be looked up.
    #[error("{host} could not be looked up: {cause}")]
    Dns {
        /// The name.
        host: String,
        /// What the resolver said.
        cause: String,
    },
    /// Nobody accepted the connection.
    #[error("no connection to {host}: {cause}")]
    Connect {
        /// The host asked for.
        host: String,
        /// What the system said.
        cause: String,
    },
    /// The server did not prove who it is, or does not speak TLS.
    #[error("no safe connection to {host}: {cause}")]
    Tls {
        /// The name that the server had to prove.
        host: String,
        /// What went wrong.
        cause: String,
    },
    /// It took longer than allowed.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The answer is longer than allowed.
    #[error("the answer is longer than {0} bytes")]
    TooLarge(usize),
    /// More redirects than allowed, or one that leads nowhere.
    #[error("redirected too often, or to nowhere")]
    Redirect,
    /// The connection broke, or the answer is not HTTP.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The answer is not the JSON expected.
    #[error("the answer is not understood: {0}")]
    Answer(String),
}

impl HttpError {
    /// A URL that cannot be used. Its path and query may hold secrets: they are left out.
    pub(super) fn url(text: &str) -> HttpError {
        let path = text.match_indices('/').nth(2).map(|(at, _)| at);
        let end = path.or(text.find(['?', '#'])).unwrap_or(text.len());
        HttpError::Url(text.get(..end).unwrap_or_default().to_owned())
    }

    /// Whether no connection came about, so that nothing of the request was seen by anybody.
    #[must_use]
    pub fn is_unconnected(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. } | Self::Dns { .. } | Self::Connect { .. } | Self::Tls { .. }
        )
    }

    /// Whether the same request can never succeed, however often it is repeated: what it asks for
    /// is refused here, and no time heals that.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Url(_) | Self::Request(_) | Self::Refused { .. })
    }
}

/// Why the client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file of certificates cannot be used.
    #[error("the certificates in {file} cannot be used: {cause}")]
    CaFile {
        /// The file.
        file: String,
        /// Why.
        cause: String,
    },
    /// An exception of the guard is neither a host name nor a network.
    #[error("{0:?} is neither a host name nor an address nor a network such as 192.168.1.0/24")]
    Exception(String),
}
