//! How much each address asks, whatever it asks for.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_TYPE,
    RETRY_AFTER,
};
use http::{HeaderValue, Response, StatusCode};

use crate::limits::network_of;

/// How many addresses are known at once, at most.
const MOST: usize = 16_384;
const SHARDS: usize = 16;
/// How many seconds' worth may be asked at once.
const AT_ONCE: f64 = 10.0;

/// What an address may still ask.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn left_at(&self, per_second: f64, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left + passed * per_second).min(per_second * AT_ONCE)
    }
}

/// The buckets of all addresses; IPv6 addresses count by /64. In shards, so that the cores do not
/// wait for each other.
#[derive(Debug)]
pub(crate) struct Rates {
    /// 0: as much as one likes.
    per_second: f64,
    hasher: RandomState,
    shards: Vec<Mutex<HashMap<IpAddr, Bucket>>>,
}

impl Rates {
    pub(crate) fn new(per_second: u32) -> Rates {
        Rates {
            per_second: f64::from(per_second),
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Takes one from the address's bucket, or says how long to wait. This machine is not
    /// counted: it is our own programs, or a proxy that nobody told us of, behind which are all.
    pub(crate) fn take(&self, addr: IpAddr, now: Instant) -> Result<(), Duration> {
        if self.per_second == 0.0 || addr.to_canonical().is_loopback() {
            return Ok(());
        }
        let key = network_of(addr);
        let place = self.hasher.hash_one(key) as usize % SHARDS;
        let Some(shard) = self.shards.get(place) else {
            return Ok(());
        };
        let mut buckets = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MOST / SHARDS && !buckets.contains_key(&key) {
            self.make_room(&mut buckets, now);
        }
        let bucket = buckets.entry(key).or_insert(Bucket {
            left: self.per_second * AT_ONCE,
            at: now,
        });
        bucket.left = bucket.left_at(self.per_second, now);
        bucket.at = now;
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Ok(());
        }
        let wait = (1.0 - bucket.left) / self.per_second;
        Err(Duration::from_secs_f64(wait))
    }

    /// Forgets the fuller half, so that those that are used up stay known.
    fn make_room(&self, buckets: &mut HashMap<IpAddr, Bucket>, now: Instant) {
        let left = |bucket: &Bucket| bucket.left_at(self.per_second, now);
        let mut all: Vec<f64> = buckets.values().map(left).collect();
        let middle = all.len() / 2;
        let (_, &mut middle, _) = all.select_nth_unstable_by(middle, f64::total_cmp);
        buckets.retain(|_, bucket| left(bucket) < middle);
    }
}

/// What an address gets that asks too much: as the client-server API says it, also for browsers
/// (client-server API, "Rate limiting").
pub(crate) fn busy(wait: Duration) -> Response<Body> {
    let ms = wait.as_millis().max(1);
    let body = format!(
        "{{\"errcode\":\"M_LIMIT_EXCEEDED\",\"error\":\"Too many requests\",\"retry_after_ms\":{ms}}}"
    );
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (ACCESS_CONTROL_EXPOSE_HEADERS, "Retry-After"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let seconds = u64::try_from(ms.div_ceil(1000)).unwrap_or(u64::MAX);
    headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ten_seconds_worth_at_once_and_then_so_many_a_second() {
        let (rates, begin) = (Rates::new(20), Instant::now());
        for _ in 0..200 {
            rates.take(at("192.0.2.1"), begin).unwrap();
        }
        let wait = rates.take(at("192.0.2.1"), begin).unwrap_err();
        assert_eq!(wait.as_millis(), 50);
        assert!(rates.take(at("::ffff:192.0.2.1"), begin).is_err());
        rates.take(at("192.0.2.2"), begin).unwrap();
        let later = begin + wait;
        rates.take(at("192.0.2.1"), later).unwrap();
        assert!(rates.take(at("192.0.2.1"), later).is_err());
    }

    #[test]
    fn a_network_is_one_and_this_machine_none() {
        let (rates, now) = (Rates::new(1), Instant::now());
        for n in 0..10 {
            rates.take(at(&format!("2001:db8::{n:x}")), now).unwrap();
        }
        assert!(rates.take(at("2001:db8::ffff"), now).is_err());
        rates.take(at("2001:db8:0:1::1"), now).unwrap();
        let free = Rates::new(0);
        for _ in 0..100 {
            rates.take(at("127.0.0.1"), now).unwrap();
            rates.take(at("::1"), now).unwrap();
            free.take(at("192.0.2.1"), now).unwrap();
        }
    }

    #[test]
    fn a_flood_of_addresses_is_bounded_and_has_nobody_forgotten_who_is_used_up() {
        let (rates, now) = (Rates::new(1), Instant::now());
        let greedy = at("192.0.2.1");
        while rates.take(greedy, now).is_ok() {}
        for network in 1..100_000_u128 {
            let other = IpAddr::from((network << 64).to_be_bytes());
            rates.take(other, now).unwrap();
        }
        assert!(rates.take(greedy, now).is_err());
        let known: usize = rates.shards.iter().map(|s| s.lock().unwrap().len()).sum();
        assert!(known <= MOST, "{known}");
    }

    #[test]
    fn what_is_said_to_who_asks_too_much() {
        let response = busy(Duration::from_millis(1200));
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(response.headers()["access-control-allow-origin"], "*");
    }
}
