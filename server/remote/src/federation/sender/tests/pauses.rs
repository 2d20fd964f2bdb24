//! How long a server is left alone, and what ends that.

use ::http::Method;

use super::*;
use crate::federation::peers::Limits;

#[tokio::test]
async fn what_only_helps_now_is_not_repeated_when_it_is_old() {
    let mut house = House::new();
    let one = house.world.server("one.test").await;
    house.joined(ROOM, &[&one]);
    one.answers(|_| (503, String::new()));
    let names = [Arc::clone(&one.name)];
    let soon = |house: &House, kind: &str, n: u64| {
        let content = format!("{{\"n\":{n}}}");
        let sent = house.sender.send_soon(&names, kind, "a", &content);
        sent.unwrap();
    };
    soon(&house, "m.typing", 1);
    soon(&house, "m.receipt", 2);
    let event = house.event(ROOM, &[]);
    house.start();
    until("it was tried", || edus(&one) == [1, 2]).await;
    until("it is left alone", || {
        let standings = house.sender.inner.peers.standings();
        standings.resting_until(&one.name).is_some()
    })
    .await;
    // Nobody is typing any more, and something else was read.
    soon(&house, "m.receipt", 3);
    house.world.clock.advance(60_000);
    let tried = transactions(&one).len();
    one.answers(|_| (200, "{}".to_owned()));
    until("it arrived", || {
        house.sender.heard_from(&one.name).unwrap();
        edus(&one).last() == Some(&3) && pdus(&one).last() == Some(&event)
    })
    .await;
    let after: Vec<u64> = transactions(&one)[tried..]
        .iter()
        .flat_map(|(_, body)| numbers(body, "edus"))
        .collect();
    assert!(after.iter().all(|n| *n == 3), "{after:?}");
    house.stop().await;
}

#[tokio::test]
async fn who_turns_us_away_is_asked_again_soon_and_is_not_left_alone_by_others() {
    let mut house = House::new();
    let one = house.world.server("one.test").await;
    house.joined(ROOM, &[&one]);
    one.answers(|asked| {
        let status = if asked.path.starts_with(SEND) {
            404
        } else {
            200
        };
        (status, "{}".to_owned())
    });
    house.start();
    let event = house.event(ROOM, &[]);
    until("it was tried", || transactions(&one).len() == 1).await;
    until("it rests", || {
        house.sender.inner.queues.lock().rested_at().is_some()
    })
    .await;
    let peers = house.sender.inner.peers.clone();
    let limits = Limits::default();
    let asked = peers.call(&one.name, Method::GET, "/x", None, limits).await;
    assert_eq!(asked.unwrap().status, 200);
    let rests = || house.sender.inner.queues.lock().rested_at();
    let pause = rests().unwrap() - house.world.clock.now_ms();
    assert!(pause <= 2_000, "{pause}");
    one.answers(|_| (200, "{}".to_owned()));
    house.world.clock.advance(2_000);
    // Something else to send: the pause is looked at.
    house.edu(&one, 1);
    until("all arrived", || {
        pdus(&one) == [event, event] && edus(&one) == [1]
    })
    .await;
    house.stop().await;
}

#[tokio::test]
async fn who_is_reached_by_others_is_sent_what_waits() {
    let mut house = House::new();
    let one = house.world.server("one.test").await;
    house.joined(ROOM, &[&one]);
    one.answers(|_| (503, String::new()));
    house.start();
    let event = house.event(ROOM, &[]);
    until("it rests", || {
        house.sender.inner.queues.lock().rested_at().is_some()
    })
    .await;
    one.answers(|_| (200, "{}".to_owned()));
    // Somebody looks up a profile.
    let peers = house.sender.inner.peers.clone();
    let limits = Limits::default().even_if_resting();
    let asked = peers.call(&one.name, Method::GET, "/x", None, limits).await;
    assert_eq!(asked.unwrap().status, 200);
    until("it arrived", || pdus(&one) == [event, event]).await;
    house.stop().await;
}
