//! Rate limits: a token bucket for each class of request and each person, server or address.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use parking_lot::Mutex;
use skerry_core::UserNid;

use crate::ApiError;

/// Which limit a route counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rate {
    /// Not limited: reads, long polls.
    Free,
    /// Sending events and other writes, per person.
    Send,
    /// Joining, inviting, creating rooms, per person.
    Join,
    /// Guessable secrets: login and everything with a password or token, per address.
    Login,
    /// Making accounts, per address.
    Register,
    /// Downloads, per person.
    Media,
    /// Uploads, per person.
    Upload,
    /// Work that costs much: key queries, searches, reports, per person.
    Heavy,
}

/// How much of each class one person or address may do.
#[derive(Clone, Copy, Debug)]
pub struct RateLimits {
    /// Off: nothing is limited.
    pub enabled: bool,
}

/// How many buckets are kept before the full ones are dropped.
const MAX_BUCKETS: usize = 16_384;
const SHARDS: usize = 16;

/// (requests per second, how many at once).
fn allowance(rate: Rate) -> Option<(f64, f64)> {
    match rate {
        Rate::Free => None,
        Rate::Send => Some((50.0, 500.0)),
        Rate::Join => Some((5.0, 100.0)),
        Rate::Login => Some((0.5, 30.0)),
        Rate::Register => Some((0.5, 30.0)),
        Rate::Media => Some((20.0, 200.0)),
        Rate::Upload => Some((2.0, 100.0)),
        Rate::Heavy => Some((20.0, 200.0)),
    }
}

/// Whose bucket it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    User(UserNid),
    Peer(IpAddr),
    /// A server, by a hash of its name.
    Server(u64),
}

impl Who {
    /// An IPv6 host has a whole network of addresses to choose from: all of them count as one.
    fn network(self) -> Who {
        match self {
            Who::Peer(IpAddr::V6(peer)) => match peer.to_ipv4_mapped() {
                Some(v4) => Who::Peer(IpAddr::V4(v4)),
                None => {
                    let network = u128::from(peer) & !u128::from(u64::MAX);
                    Who::Peer(IpAddr::from(network.to_be_bytes()))
                }
            },
            other => other,
        }
    }
}

struct Bucket {
    left: f64,
    at_ms: u64,
}

type Shard = Mutex<HashMap<(Rate, Who), Bucket>>;

/// All buckets, sharded by key.
pub(crate) struct Limiter {
    limits: RateLimits,
    hasher: RandomState,
    shards: Vec<Shard>,
}

impl Limiter {
    pub(crate) fn new(limits: RateLimits) -> Limiter {
        let shards = (0..SHARDS).map(|_| Mutex::new(HashMap::new())).collect();
        Limiter {
            limits,
            hasher: RandomState::new(),
            shards,
        }
    }

    /// Whose bucket a server's requests count against.
    pub(crate) fn server(&self, name: &str) -> Who {
        Who::Server(self.hasher.hash_one(name))
    }

    /// Takes one from the bucket, or says how long to wait.
    pub(crate) fn take(&self, rate: Rate, who: Who, now_ms: u64) -> Result<(), ApiError> {
        if !self.limits.enabled {
            return Ok(());
        }
        let Some((per_second, burst)) = allowance(rate) else {
            return Ok(());
        };
        let key = (rate, who.network());
        let place = self.hasher.hash_one(key) as usize % SHARDS;
        let Some(shard) = self.shards.get(place) else {
            return Ok(());
        };
        let mut buckets = shard.lock();
        if buckets.len() >= MAX_BUCKETS / SHARDS && !buckets.contains_key(&key) {
            // A bucket untouched for ten minutes is full again in every class.
            buckets.retain(|_, bucket| bucket.at_ms + 600_000 > now_ms);
            if buckets.len() >= MAX_BUCKETS / SHARDS {
                // More addresses at once than are kept: everybody begins again.
                buckets.clear();
            }
        }
        let bucket = buckets.entry(key).or_insert(Bucket {
            left: burst,
            at_ms: now_ms,
        });
        let passed = now_ms.saturating_sub(bucket.at_ms) as f64 / 1000.0;
        bucket.left = (bucket.left + passed * per_second).min(burst);
        bucket.at_ms = now_ms;
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Ok(());
        }
        let wait_ms = (1.0 - bucket.left) / per_second * 1000.0;
        Err(ApiError::limit(wait_ms.ceil() as u64))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills() {
        let limiter = Limiter::new(RateLimits { enabled: true });
        let who = Who::Peer(IpAddr::from([192, 0, 2, 1]));
        for _ in 0..30 {
            limiter.take(Rate::Login, who, 0).unwrap();
        }
        let refused = limiter.take(Rate::Login, who, 0).unwrap_err();
        assert_eq!(refused.status(), 429);
        assert_eq!(refused.body(None)["retry_after_ms"], 2000);
        limiter.take(Rate::Login, who, 2000).unwrap();
        limiter.take(Rate::Login, Who::User(UserNid(1)), 0).unwrap();
    }

    #[test]
    fn the_addresses_of_a_network_count_as_one() {
        let limiter = Limiter::new(RateLimits { enabled: true });
        let at = |text: &str| Who::Peer(text.parse().unwrap());
        for n in 0..30 {
            let who = at(&format!("2001:db8:0:1::{n:x}"));
            limiter.take(Rate::Login, who, 0).unwrap();
        }
        let take = |text: &str| limiter.take(Rate::Login, at(text), 0);
        assert!(take("2001:db8:0:1:ffff::1").is_err());
        take("2001:db8:0:2::1").unwrap();
        for _ in 0..30 {
            take("192.0.2.1").unwrap();
        }
        assert!(take("::ffff:192.0.2.1").is_err());
    }

    #[test]
    fn buckets_are_bounded_in_number() {
        let limiter = Limiter::new(RateLimits { enabled: true });
        for n in 0..50_000 {
            limiter
                .take(Rate::Login, Who::User(UserNid(n + 1)), 0)
                .unwrap();
        }
        let held: usize = limiter.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!(held <= MAX_BUCKETS, "{held}");
    }

    #[test]
    fn off_limits_nothing() {
        let limiter = Limiter::new(RateLimits { enabled: false });
        let who = Who::User(UserNid(1));
        for _ in 0..1000 {
            limiter.take(Rate::Login, who, 0).unwrap();
        }
    }
}
