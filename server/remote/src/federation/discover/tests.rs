#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::http::{HeaderMap, HeaderValue, StatusCode};
use futures_util::future::BoxFuture;
use proptest::prelude::*;
use skerry_core::fixtures::FakeClock;

use super::{Discovery, LONGEST_MS, NONE_MS, Place, USUAL_MS};
use crate::http::{HttpError, Request, Resolve, Response, Route, Service, Transport};

/// Well-known answers by URL, SRV records by name, and how often was asked.
#[derive(Default)]
struct World {
    pages: HashMap<String, (u16, &'static str, Option<&'static str>)>,
    services: HashMap<String, Vec<Service>>,
    asked: AtomicUsize,
}

impl Transport for World {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let page = self.pages.get(request.url());
        let answer = page.map(|(status, body, control)| {
            let mut headers = HeaderMap::new();
            if let Some(control) = control {
                headers.insert("cache-control", HeaderValue::from_static(control));
            }
            Response {
                status: StatusCode::from_u16(*status).unwrap(),
                headers,
                body: body.as_bytes().into(),
            }
        });
        let answer = answer.ok_or_else(|| HttpError::Broken("nobody is there".into()));
        Box::pin(async move { answer })
    }
}

impl Resolve for World {
    fn addresses<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>> {
        Box::pin(async { Err("not asked for addresses".to_owned()) })
    }

    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Service>, String>> {
        let found = self.services.get(name).cloned().unwrap_or_default();
        Box::pin(async move { Ok(found) })
    }
}

fn page(world: &mut World, host: &str, body: &'static str, control: Option<&'static str>) {
    let url = format!("https://{host}/.well-known/matrix/server");
    world.pages.insert(url, (200, body, control));
}

fn service(world: &mut World, name: &str, priority: u16, weight: u16, target: &str, port: u16) {
    world
        .services
        .entry(name.to_owned())
        .or_default()
        .push(Service {
            priority,
            weight,
            target: target.to_owned(),
            port,
        });
}

fn discovery(world: World) -> (Arc<World>, Arc<FakeClock>, Discovery) {
    let (world, clock) = (Arc::new(world), Arc::new(FakeClock::new()));
    let discovery = Discovery::new(world.clone(), world.clone(), clock.clone());
    (world, clock, discovery)
}

fn one(host: &str, to: &str, port: u16, tls_name: &str) -> Option<Place> {
    Some(Place {
        host: host.to_owned(),
        routes: vec![Route {
            host: to.to_owned(),
            port,
            tls_name: tls_name.to_owned(),
        }],
    })
}

#[tokio::test]
async fn each_kind_of_name_leads_where_the_specification_says() {
    let mut world = World::default();
    page(&mut world, "a.example", "{\"m.server\":\"1.2.3.4\"}", None);
    page(&mut world, "b.example", "{\"m.server\":\"[::1]:99\"}", None);
    page(
        &mut world,
        "c.example",
        "{\"m.server\":\"x.example:443\"}",
        None,
    );
    page(
        &mut world,
        "d.example",
        "{\"m.server\":\"y.example\"}",
        None,
    );
    page(
        &mut world,
        "e.example",
        "{\"m.server\":\"z.example\"}",
        None,
    );
    page(
        &mut world,
        "f.example",
        "{\"m.server\":\"not a name\"}",
        None,
    );
    service(
        &mut world,
        "_matrix-fed._tcp.y.example.",
        10,
        0,
        "srv.y.example.",
        7001,
    );
    service(
        &mut world,
        "_matrix._tcp.y.example.",
        0,
        0,
        "old.y.example.",
        7002,
    );
    service(
        &mut world,
        "_matrix._tcp.f.example.",
        0,
        0,
        "old.f.example.",
        7003,
    );
    let (_, _, discovery) = discovery(world);
    for (name, place) in [
        ("9.8.7.6", one("9.8.7.6", "9.8.7.6", 8448, "9.8.7.6")),
        ("9.8.7.6:1", one("9.8.7.6:1", "9.8.7.6", 1, "9.8.7.6")),
        (
            "[2001:db8::1]",
            one("[2001:db8::1]", "2001:db8::1", 8448, "2001:db8::1"),
        ),
        (
            "[2001:db8::1]:5",
            one("[2001:db8::1]:5", "2001:db8::1", 5, "2001:db8::1"),
        ),
        (
            "h.example:5",
            one("h.example:5", "h.example", 5, "h.example"),
        ),
        ("a.example", one("1.2.3.4", "1.2.3.4", 8448, "1.2.3.4")),
        ("b.example", one("[::1]:99", "::1", 99, "::1")),
        (
            "c.example",
            one("x.example:443", "x.example", 443, "x.example"),
        ),
        (
            "d.example",
            one("y.example", "srv.y.example", 7001, "y.example"),
        ),
        (
            "e.example",
            one("z.example", "z.example", 8448, "z.example"),
        ),
        (
            "f.example",
            one("f.example", "old.f.example", 7003, "f.example"),
        ),
        (
            "g.example",
            one("g.example", "g.example", 8448, "g.example"),
        ),
        ("not a name", None),
        ("h.example:99999", None),
    ] {
        assert_eq!(discovery.find(name).await, place, "{name}");
    }
}

#[tokio::test]
async fn services_are_tried_by_priority_and_weight() {
    let mut world = World::default();
    let name = "_matrix-fed._tcp.h.example.";
    service(&mut world, name, 20, 5, "third.", 3);
    service(&mut world, name, 10, 1, "second.", 2);
    service(&mut world, name, 10, 9, "first.", 1);
    service(&mut world, name, 0, 0, ".", 0);
    let (_, _, discovery) = discovery(world);
    let place = discovery.find("h.example").await.unwrap();
    let ports: Vec<u16> = place.routes.iter().map(|route| route.port).collect();
    assert_eq!(ports, [1, 2, 3]);
}

#[tokio::test]
async fn what_a_well_known_says_is_believed_for_a_time() {
    let mut world = World::default();
    page(&mut world, "usual.example", "{\"m.server\":\"x:1\"}", None);
    page(
        &mut world,
        "long.example",
        "{\"m.server\":\"x:1\"}",
        Some("max-age=99999999999"),
    );
    page(
        &mut world,
        "never.example",
        "{\"m.server\":\"x:1\"}",
        Some("no-store"),
    );
    let (world, clock, discovery) = discovery(world);
    for (host, believed_ms) in [
        ("usual.example", USUAL_MS),
        ("long.example", LONGEST_MS),
        ("never.example", super::SHORTEST_MS),
        ("none.example", NONE_MS),
    ] {
        let asked = || world.asked.load(Ordering::Relaxed);
        let before = asked();
        discovery.find(host).await.unwrap();
        clock.advance(believed_ms - 1);
        discovery.find(host).await.unwrap();
        assert_eq!(asked() - before, 1, "{host}: still believed");
        clock.advance(1);
        discovery.find(host).await.unwrap();
        assert_eq!(asked() - before, 2, "{host}: asked again");
        discovery.forget(host);
        discovery.find(host).await.unwrap();
        assert_eq!(asked() - before, 3, "{host}: forgotten");
    }
}

#[test]
fn a_date_of_expiry_counts_where_nothing_else_is_said() {
    let headers = |pairs: &[(&'static str, &'static str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        headers
    };
    // 2026-09-21 14:13:20 UTC.
    let now = 1_790_000_000_000;
    let (soon, past) = (
        "Mon, 21 Sep 2026 15:13:20 GMT",
        "Mon, 21 Sep 2026 13:13:20 GMT",
    );
    for (pairs, expected) in [
        (&[][..], None),
        (&[("expires", soon)], Some(3_600_000)),
        (&[("expires", past)], Some(0)),
        (&[("expires", "0")], Some(0)),
        (
            &[("cache-control", "public"), ("expires", soon)],
            Some(3_600_000),
        ),
        (
            &[("cache-control", "public, Max-Age=5"), ("expires", soon)],
            Some(5_000),
        ),
        (&[("cache-control", "no-cache"), ("expires", soon)], Some(0)),
    ] {
        assert_eq!(super::lifetime(&headers(pairs), now), expected, "{pairs:?}");
    }
}

#[tokio::test]
async fn of_many_who_want_to_know_the_same_one_asks() {
    let mut world = World::default();
    page(&mut world, "a.example", "{\"m.server\":\"x:1\"}", None);
    let (world, _, discovery) = discovery(world);
    let at_once = (0..10).map(|_| discovery.find("a.example"));
    for found in futures_util::future::join_all(at_once).await {
        assert_eq!(found, one("x:1", "x", 1, "x"));
    }
    assert_eq!(world.asked.load(Ordering::Relaxed), 1);
}

proptest! {
    /// Whatever a `.well-known` says, it is a place or none.
    #[test]
    fn no_answer_is_too_strange(body in "\\PC{0,200}", server in "\\PC{0,60}", age in "\\PC{0,30}") {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(&format!("max-age={age}")) {
            headers.insert("cache-control", value);
        }
        let named = serde_json::json!({ "m.server": server }).to_string();
        for body in [body, named] {
            let answer = Response {
                status: StatusCode::OK,
                headers: headers.clone(),
                body: body.into_bytes().into(),
            };
            if let Some(known) = super::read(&answer, 5) {
                let until = 5 + super::SHORTEST_MS..=5 + LONGEST_MS;
                prop_assert!(until.contains(&known.until_ms));
                prop_assert!(super::Name::parse(&known.delegated.unwrap()).is_some());
            }
        }
    }
}
