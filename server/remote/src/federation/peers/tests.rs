#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use skerry_core::canonical::Mode;

use super::*;
use crate::federation::Proof;
use crate::federation::fakes::World;
use crate::http::Guard;

fn body() -> Object {
    Object::parse(b"{\"b\":[1,2.5],\"a\":null}", Mode::Lenient).unwrap()
}

#[tokio::test]
async fn a_request_arrives_signed_and_the_answer_comes_back() {
    let world = World::new();
    let (store, one) = (world.store(), world.server("one.test").await);
    let peers = world.peers(&store);
    one.answers(|_| (200, "{\"x\":1}".to_owned()));
    let path = "/_matrix/federation/v1/some?a=%20b";
    let answer = peers
        .call(
            &one.name,
            Method::PUT,
            path,
            Some(&body()),
            Limits::default(),
        )
        .await
        .unwrap();
    assert_eq!(answer.object().unwrap().int("x"), Some(1));
    let asked = one.asked();
    assert_eq!(asked.len(), 1, "a name with a port is where it says");
    assert_eq!(
        (asked[0].method.as_str(), asked[0].path.as_str()),
        ("PUT", path)
    );
    assert_eq!(asked[0].host, *one.name);
    assert_eq!(asked[0].body, "{\"a\":null,\"b\":[1,2.5]}");
    let proof = Proof::parse(asked[0].authorization.as_deref().unwrap()).unwrap();
    assert_eq!(proof.destination.as_deref(), Some(&*one.name));
    let content = body().to_string();
    let signed = Signed {
        method: "PUT",
        uri: path,
        origin: "own.test",
        destination: &one.name,
        content: Some(&content),
    };
    assert!(signed.is_signed(&proof, &peers.key().public_key()));
}

#[tokio::test]
async fn a_service_record_leads_elsewhere_and_the_name_stays() {
    let world = World::new();
    let (store, one) = (world.store(), world.server("one.test").await);
    world.service("_matrix-fed._tcp.srv.test.", one.addr.port());
    world.service("_matrix-fed._tcp.other.test.", one.addr.port());
    let peers = world.peers(&store);
    let get = |name: &'static str| {
        let peers = peers.clone();
        async move {
            peers
                .call(name, Method::GET, "/x", None, Limits::default())
                .await
        }
    };
    get("srv.test").await.unwrap();
    assert_eq!(one.asked()[0].host, "srv.test");
    // The certificate is for srv.test, and not for this one.
    let error = get("other.test").await.unwrap_err();
    assert!(
        matches!(&error, PeerError::Unreachable(why) if why.contains("other.test")),
        "{error}"
    );
    assert_eq!(one.asked().len(), 1);
}

#[tokio::test]
async fn nobody_is_asked_who_must_not_be() {
    let world = World::new();
    let (store, one) = (world.store(), world.server("127.0.0.1").await);
    let peers = world.peers_of("own.test", &store, Guard::default());
    let limits = Limits::default().even_if_resting();
    let get = |name: String| {
        let peers = peers.clone();
        async move { peers.call(&name, Method::GET, "/x", None, limits).await }
    };
    let ourselves = get("own.test".to_owned()).await;
    assert!(
        matches!(ourselves, Err(PeerError::Ourselves)),
        "{ourselves:?}"
    );
    for name in ["denied.test", "DENIED.test:8448", "no name", "a/b", ""] {
        let denied = get(name.to_owned()).await;
        assert!(
            matches!(denied, Err(PeerError::Denied)),
            "{name}: {denied:?}"
        );
    }
    let port = one.addr.port();
    for name in [
        format!("127.0.0.1:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("one.test:{port}"),
    ] {
        let private = get(name.clone()).await;
        let refused =
            matches!(&private, Err(PeerError::Unreachable(why)) if why.contains("public"));
        assert!(refused, "{name}: {private:?}");
    }
    assert!(one.asked().is_empty());
}

#[tokio::test]
async fn refusals_are_read_and_those_who_are_not_well_are_left_alone() {
    let world = World::new();
    let (store, one) = (world.store(), world.server("one.test").await);
    let peers = world.peers(&store);
    let get = |limits: Limits| {
        let (peers, name) = (peers.clone(), one.name.clone());
        async move { peers.call(&name, Method::GET, "/x", None, limits).await }
    };
    one.answers(|_| {
        (
            403,
            "{\"errcode\":\"M_FORBIDDEN\",\"error\":\"no\"}".to_owned(),
        )
    });
    let error = get(Limits::default()).await.unwrap_err();
    assert_eq!(
        (error.status(), error.is_code("M_FORBIDDEN")),
        (Some(403), true)
    );
    one.answers(|_| (500, "<html>".to_owned()));
    let error = get(Limits::default()).await.unwrap_err();
    assert!(
        matches!(
            error,
            PeerError::Refused {
                status: 500,
                errcode: None,
                ..
            }
        ),
        "{error}"
    );
    one.answers(|_| (429, "{\"retry_after_ms\":60000}".to_owned()));
    let error = get(Limits::default()).await.unwrap_err();
    assert_eq!(error.status(), Some(429));
    let asked = one.asked().len();
    let resting = get(Limits::default()).await.unwrap_err();
    let expected = world.clock.now_ms() + 60_000;
    assert!(matches!(resting, PeerError::Resting { until_ms } if until_ms == expected));
    assert_eq!(one.asked().len(), asked);
    one.answers(|_| (200, "{}".to_owned()));
    get(Limits::default().even_if_resting()).await.unwrap();
    get(Limits::default()).await.unwrap();
}

#[tokio::test]
async fn a_restart_does_not_forget_who_was_not_reached() {
    let world = World::new();
    let store = world.store();
    let nobody = "one.test:1";
    let peers = world.peers(&store);
    let get = |peers: Peers| async move {
        let limits = Limits::default();
        peers.call(nobody, Method::GET, "/x", None, limits).await
    };
    let error = get(peers.clone()).await.unwrap_err();
    assert!(matches!(error, PeerError::Unreachable(_)), "{error}");
    // One that nothing here names leaves no row.
    let mut w = store.write();
    peers.standings().write(&mut w).unwrap();
    assert!(w.is_empty());
    store.intern_server(nobody).unwrap();
    world.clock.advance(5_000);
    let _ = get(peers.clone()).await.unwrap_err();
    let mut w = store.write();
    peers.standings().write(&mut w).unwrap();
    store.durable(&store.commit(w).unwrap()).await.unwrap();
    let again = world.peers(&store);
    let standing = again.standings().of(nobody).unwrap();
    assert_eq!(standing.failures, 2);
    let error = get(again.clone()).await.unwrap_err();
    assert!(matches!(error, PeerError::Resting { .. }), "{error}");
    assert!(again.standings().heard_from(nobody));
    let error = get(again).await.unwrap_err();
    assert!(matches!(error, PeerError::Unreachable(_)), "{error}");
}

#[tokio::test]
async fn who_speaks_to_us_is_not_left_alone_for_hours() {
    let world = World::new();
    let peers = world.peers(&world.store());
    let standings = peers.standings();
    let pause = || standings.failed("one.test", "gone", None) - world.clock.now_ms();
    for _ in 0..20 {
        world.clock.advance(pause());
    }
    let long = pause();
    assert!(long > 3 * 3_600_000, "{long}");
    assert!(standings.heard_from("one.test"));
    assert!(!standings.heard_from("one.test"), "it is tried already");
    let short = pause();
    assert!(short <= 32_000, "{short}");
}

#[tokio::test]
async fn an_answer_that_is_too_long_or_too_late_is_none() {
    let world = World::new();
    let (store, one) = (world.store(), world.server("one.test").await);
    let peers = world.peers(&store);
    one.answers(|_| (200, "x".repeat(1_001)));
    let limits = Limits::new(Duration::from_secs(30), 1_000);
    let long = peers.call(&one.name, Method::GET, "/x", None, limits).await;
    assert!(matches!(long, Err(PeerError::Answer(_))), "{long:?}");
    let mut opened = peers
        .open(&one.name, Method::GET, "/x", None, Limits::default())
        .await
        .unwrap();
    assert_eq!(opened.rest().await.unwrap().len(), 1_001);
    // Somebody who takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("two.test:{}", silent.local_addr().unwrap().port());
    let limits = Limits::new(Duration::from_millis(50), 1_000);
    let late = peers.call(&name, Method::GET, "/x", None, limits).await;
    assert!(matches!(late, Err(PeerError::Unreachable(_))), "{late:?}");
}
