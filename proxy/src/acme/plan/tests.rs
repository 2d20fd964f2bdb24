#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::time::Duration;

use super::*;

const NOW: u64 = 1_800_000_000_000;
const BOTH: &[Kind] = &[Kind::TlsAlpn01, Kind::Http01];

fn failure(stage: Stage) -> Failure {
    Failure {
        words: "no".to_owned(),
        stage,
        retry_after: None,
    }
}

/// One attempt at a time, which fails like this.
fn tried(history: &mut History, stage: Stage, at: u64) {
    let kind = history.choose(BOTH);
    history.begin(kind, at);
    history.fail(&failure(stage), 10_000, at);
}

#[test]
fn three_failed_validations_an_hour_and_twelve_a_day() {
    let mut history = History::default();
    let mut tries = Vec::new();
    let mut at = NOW;
    while at < NOW + 3 * DAY_MS {
        // Whoever asks for it is not held up by our own wait, and breaks no rule all the same.
        at = history.allowed_ms(at).max(at);
        tries.push(at);
        tried(&mut history, Stage::Validation, at);
        at += 1;
    }
    for (n, begin) in tries.iter().enumerate() {
        let within = |span| tries[n..].iter().filter(|t| **t < begin + span).count();
        assert!(within(HOUR_MS) <= 3 && within(DAY_MS) <= 12, "{tries:?}");
    }
    assert!(tries.len() >= 36, "{tries:?}");
}

#[test]
fn by_itself_it_waits_longer_each_time() {
    let mut history = History::default();
    let mut tries = Vec::new();
    let mut at = NOW;
    while at < NOW + DAY_MS {
        tries.push(at - NOW);
        tried(&mut history, Stage::Validation, at);
        at = history.next_try_ms(at);
    }
    assert_eq!(tries[..4], [0, 10_000, 30_000, HOUR_MS]);
    assert!((10..=12).contains(&tries.len()), "{tries:?}");
    // Nor is there ever a gap of most of a day, for who mends it meanwhile.
    assert!(tries.windows(2).all(|two| two[1] - two[0] <= 3 * HOUR_MS));
}

#[test]
fn a_ca_that_cannot_be_reached_is_asked_often_at_first() {
    let mut history = History::default();
    let (mut at, mut waits) = (NOW, Vec::new());
    for _ in 0..12 {
        tried(&mut history, Stage::Before, at);
        waits.push(history.next_try_ms(at) - at);
        at = history.next_try_ms(at);
    }
    assert_eq!(waits[..3], [10_000, 20_000, 40_000]);
    assert_eq!(waits[11], HOUR_MS);
    assert!(history.failed_at_ms.is_empty());
}

#[test]
fn the_other_way_after_two_failures_and_back() {
    let mut history = History::default();
    let mut ways = Vec::new();
    for n in 0..6 {
        ways.push(history.choose(BOTH));
        tried(&mut history, Stage::Validation, NOW + n);
    }
    use Kind::{Http01 as H, TlsAlpn01 as T};
    assert_eq!(ways, [T, T, H, H, T, T]);
    // What is not offered is left at once, and what is not allowed any more as well.
    let mut history = History::default();
    tried(&mut history, Stage::NotOffered, NOW);
    assert_eq!(history.choose(BOTH), Kind::Http01);
    assert_eq!(history.choose(&[Kind::Dns01]), Kind::Dns01);
    // That the CA was not there says nothing of the way.
    let mut history = History::default();
    for n in 0..5 {
        tried(&mut history, Stage::Before, NOW + n);
    }
    assert_eq!(history.choose(BOTH), Kind::TlsAlpn01);
}

#[test]
fn the_wish_to_be_left_alone_is_obeyed_within_reason() {
    let wish = |seconds| Failure {
        retry_after: Some(Duration::from_secs(seconds)),
        ..failure(Stage::Before)
    };
    let mut history = History::default();
    history.begin(Kind::Http01, NOW);
    history.fail(&wish(7200), 10_000, NOW);
    assert_eq!(history.next_try_ms(NOW), NOW + 2 * HOUR_MS);
    assert_eq!(history.allowed_ms(NOW), NOW + 2 * HOUR_MS);
    history.begin(Kind::Http01, NOW);
    history.fail(&wish(u64::MAX / 1000), 10_000, NOW);
    assert_eq!(history.next_try_ms(NOW), NOW + 7 * DAY_MS);
}

#[test]
fn who_is_killed_meanwhile_has_tried() {
    let mut history = History::default();
    for n in 0..3 {
        history.begin(Kind::Http01, NOW + n);
    }
    let kept = serde_json::to_string(&history).unwrap();
    let history: History = serde_json::from_str(&kept).unwrap();
    assert_eq!(history.next_try_ms(NOW + 5), NOW + HOUR_MS);
}

#[test]
fn success_forgets() {
    let mut history = History::default();
    tried(&mut history, Stage::Validation, NOW);
    history.begin(Kind::TlsAlpn01, NOW + 20_000);
    history.succeed();
    assert_eq!(history.failed_at_ms, [NOW]);
    assert_eq!((history.failures, history.words), (0, None));
}

#[test]
fn renewed_well_ahead_and_not_all_at_once() {
    let day = DAY_MS;
    let facts = Facts {
        from_ms: NOW,
        until_ms: NOW + 90 * day,
        promised: true,
    };
    let at = |jitter| renew_ms(&facts, None, jitter) - NOW;
    assert_eq!(at(0.0) / day, 60);
    assert_eq!(at(1.0) / day, 55);
    let advice = |from, to| Advice {
        from_ms: NOW + from * day,
        to_ms: NOW + to * day,
        again: Duration::from_secs(3600),
    };
    let advised = |advice: Advice, jitter| renew_ms(&facts, Some(&advice), jitter) - NOW;
    assert_eq!(advised(advice(70, 72), 0.0) / day, 70);
    assert_eq!(advised(advice(70, 72), 1.0) / day, 72);
    // Revoked: at once. A window beyond the end: not so late.
    assert_eq!(advised(advice(0, 0), 0.5), 0);
    assert_eq!(advised(advice(100, 120), 0.5) / day, 81);
    let (a, b) = (jitter(b"a"), jitter(b"b"));
    assert!(a != b && (0.0..=1.0).contains(&a) && (0.0..=1.0).contains(&b));
}
