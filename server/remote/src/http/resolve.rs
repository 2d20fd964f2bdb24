//! From names to addresses.

use std::net::IpAddr;

use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::proto::rr::{RData, Record};

/// How many names are kept, for as long as their records say.
const CACHED_NAMES: u64 = 4_096;

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Lower ones are tried first.
    pub priority: u16,
    /// Of equal priority, heavier ones are tried first.
    pub weight: u16,
    /// The host.
    pub target: String,
    /// Its port.
    pub port: u16,
}

/// Looks names up; a seam for tests.
pub trait Resolve: Send + Sync {
    /// All addresses of a name, in the order in which to try them. Never empty.
    ///
    /// # Errors
    /// What the resolver said, in words.
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>>;

    /// The SRV records of a name, in any order; empty where there are none.
    ///
    /// # Errors
    /// What the resolver said, in words.
    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Service>, String>>;
}

/// The resolver of the system's configuration, with a cache. Where that cannot be read, each name
/// is left to the system itself.
pub struct SystemResolver(Option<TokioResolver>);

impl SystemResolver {
    /// Reads the system's configuration. Has to be called inside a tokio runtime.
    #[must_use]
    pub fn new() -> SystemResolver {
        let built = TokioResolver::builder_tokio().and_then(|mut builder| {
            let options = builder.options_mut();
            options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            options.cache_size = CACHED_NAMES;
            builder.build()
        });
        match built {
            Ok(resolver) => SystemResolver(Some(resolver)),
            Err(error) => {
                tracing::warn!(
                    %error,
                    "the system's resolver configuration cannot be read; names are looked up \
                     by the system, without a cache"
                );
                SystemResolver(None)
            }
        }
    }
}

impl Default for SystemResolver {
    fn default() -> SystemResolver {
        SystemResolver::new()
    }
}

impl Resolve for SystemResolver {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>> {
        Box::pin(async move {
            let found: Vec<IpAddr> = match &self.0 {
                Some(resolver) => {
                    let found = resolver.lookup_ip(name).await;
                    found.map_err(|error| error.to_string())?.iter().collect()
                }
                None => {
                    let found = tokio::net::lookup_host((name, 0)).await;
                    let found = found.map_err(|error| error.to_string())?;
                    found.map(|address| address.ip()).collect()
                }
            };
            if found.is_empty() {
                return Err("it has no address".to_owned());
            }
            Ok(found)
        })
    }

    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Service>, String>> {
        Box::pin(async move {
            let Some(resolver) = &self.0 else {
                return Ok(Vec::new());
            };
            let found = match resolver.srv_lookup(name).await {
                Ok(found) => found,
                Err(error) if error.is_no_records_found() || error.is_nx_domain() => {
                    return Ok(Vec::new());
                }
                Err(error) => return Err(error.to_string()),
            };
            Ok(found.answers().iter().filter_map(service).collect())
        })
    }
}

fn service(record: &Record) -> Option<Service> {
    let RData::SRV(srv) = &record.data else {
        return None;
    };
    Some(Service {
        priority: srv.priority,
        weight: srv.weight,
        target: srv.target.to_utf8(),
        port: srv.port,
    })
}
