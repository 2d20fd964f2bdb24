//! From names to addresses.

use std::net::IpAddr;

use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;

/// How many names are kept, for as long as their records say.
const CACHED_NAMES: u64 = 4_096;

/// Looks names up; a seam for tests.
pub trait Resolve: Send + Sync {
    /// All addresses of a name, in the order in which to try them. Never empty.
    ///
    /// # Errors
    /// What the resolver said, in words.
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>>;
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
}
