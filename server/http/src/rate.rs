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
    /// What another server sends and asks, per server; its joins and downloads count as those.
    Federation,
}

/// How often something may be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    /// A second, over a longer time; more than 0.
    pub per_second: f64,
    /// At once, after a pause; at least 1.
    pub at_once: f64,
}

const fn allow(per_second: f64, at_once: f64) -> Allowance {
    Allowance {
        per_second,
        at_once,
    }
}

/// How much of each class one person, server or address may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimits {
    /// Off: nothing is limited.
    pub enabled: bool,
    /// Of [`Rate::Send`].
    pub send: Allowance,
    /// Of [`Rate::Join`].
    pub join: Allowance,
    /// Of [`Rate::Login`].
    pub login: Allowance,
    /// Of [`Rate::Register`].
    pub register: Allowance,
    /// Of [`Rate::Media`].
    pub media: Allowance,
    /// Of [`Rate::Upload`].
    pub upload: Allowance,
    /// Of [`Rate::Heavy`].
    pub heavy: Allowance,
    /// Of [`Rate::Federation`].
    pub federation: Allowance,
}

impl Default for RateLimits {
    fn default() -> Self {
        RateLimits {
            enabled: true,
            send: allow(50.0, 500.0),
            join: allow(5.0, 100.0),
            login: allow(0.5, 30.0),
            register: allow(0.5, 30.0),
            media: allow(20.0, 200.0),
            upload: allow(2.0, 100.0),
            heavy: allow(20.0, 200.0),
            federation: allow(50.0, 500.0),
        }
    }
}

impl RateLimits {
    /// None: as much as one likes.
    fn of(&self, rate: Rate) -> Option<Allowance> {
        match rate {
            _ if !self.enabled => None,
            Rate::Free => None,
            Rate::Send => Some(self.send),
            Rate::Join => Some(self.join),
            Rate::Login => Some(self.login),
            Rate::Register => Some(self.register),
            Rate::Media => Some(self.media),
            Rate::Upload => Some(self.upload),
            Rate::Heavy => Some(self.heavy),
            Rate::Federation => Some(self.federation),
        }
    }
}

/// How many buckets are kept at most.
const MAX_BUCKETS: usize = 16_384;
const SHARDS: usize = 16;

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
        let Some(allowed) = self.limits.of(rate) else {
            return Ok(());
        };
        let key = (rate, who.network());
        let place = self.hasher.hash_one(key) as usize % SHARDS;
        let Some(shard) = self.shards.get(place) else {
            return Ok(());
        };
        let mut buckets = shard.lock();
        if buckets.len() >= MAX_BUCKETS / SHARDS && !buckets.contains_key(&key) {
            self.make_room(&mut buckets, now_ms);
        }
        let bucket = buckets.entry(key).or_insert(Bucket {
            left: allowed.at_once,
            at_ms: now_ms,
        });
        bucket.left = bucket.left_at(allowed, now_ms);
        bucket.at_ms = now_ms;
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Ok(());
        }
        let wait_ms = (1.0 - bucket.left) / allowed.per_second * 1000.0;
        Err(ApiError::limit(wait_ms.ceil() as u64))
    }

    /// Forgets the fuller half: who comes with many addresses, and asks little with each, does
    /// not have those forgotten that are used up.
    fn make_room(&self, buckets: &mut HashMap<(Rate, Who), Bucket>, now_ms: u64) {
        let used = |(rate, _): &(Rate, Who), bucket: &Bucket| {
            let allowed = self.limits.of(*rate);
            allowed.map_or(0.0, |allowed| {
                1.0 - bucket.left_at(allowed, now_ms) / allowed.at_once
            })
        };
        let mut all: Vec<f64> = buckets.iter().map(|(key, one)| used(key, one)).collect();
        let middle = all.len() / 2;
        let (_, &mut middle, _) = all.select_nth_unstable_by(middle, f64::total_cmp);
        buckets.retain(|key, bucket| used(key, bucket) > middle);
    }
}

impl Bucket {
    fn left_at(&self, allowed: Allowance, now_ms: u64) -> f64 {
        let passed = now_ms.saturating_sub(self.at_ms) as f64 / 1000.0;
        (self.left + passed * allowed.per_second).min(allowed.at_once)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills() {
        let limiter = Limiter::new(RateLimits::default());
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
        let limiter = Limiter::new(RateLimits::default());
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
        let limiter = Limiter::new(RateLimits::default());
        for n in 0..50_000 {
            limiter
                .take(Rate::Login, Who::User(UserNid(n + 1)), 0)
                .unwrap();
        }
        let held: usize = limiter.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!(held <= MAX_BUCKETS, "{held}");
    }

    #[test]
    fn many_addresses_do_not_have_one_forgotten_that_is_used_up() {
        let limiter = Limiter::new(RateLimits::default());
        let guesser = Who::Peer(IpAddr::from([192, 0, 2, 1]));
        while limiter.take(Rate::Login, guesser, 0).is_ok() {}
        for network in 0..100_000_u128 {
            let other = IpAddr::from((network << 64).to_be_bytes());
            limiter.take(Rate::Login, Who::Peer(other), 0).unwrap();
        }
        assert!(limiter.take(Rate::Login, guesser, 0).is_err());
    }

    #[test]
    fn each_class_has_a_budget_of_its_own_which_ends_where_it_says() {
        let limits = RateLimits::default();
        let limiter = Limiter::new(limits);
        let who = Who::User(UserNid(1));
        for (rate, per_second, at_once) in [
            (Rate::Send, 50.0, 500),
            (Rate::Join, 5.0, 100),
            (Rate::Login, 0.5, 30),
            (Rate::Register, 0.5, 30),
            (Rate::Media, 20.0, 200),
            (Rate::Upload, 2.0, 100),
            (Rate::Heavy, 20.0, 200),
            (Rate::Federation, 50.0, 500),
        ] {
            assert_eq!(limits.of(rate), Some(allow(per_second, f64::from(at_once))));
            for _ in 0..at_once {
                limiter.take(rate, who, 0).unwrap();
            }
            let refused = limiter.take(rate, who, 0).unwrap_err();
            let wait_ms = (1000.0 / per_second) as u64;
            assert_eq!(refused.body(None)["retry_after_ms"], wait_ms, "{rate:?}");
            limiter.take(rate, who, wait_ms).unwrap();
            assert!(limiter.take(rate, who, wait_ms).is_err(), "{rate:?}");
        }
        assert_eq!(limits.of(Rate::Free), None);
    }

    #[test]
    fn off_limits_nothing() {
        let limits = RateLimits {
            enabled: false,
            ..RateLimits::default()
        };
        let limiter = Limiter::new(limits);
        let who = Who::User(UserNid(1));
        for _ in 0..1000 {
            limiter.take(Rate::Login, who, 0).unwrap();
        }
    }
}
