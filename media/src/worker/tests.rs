#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Instant;

use super::*;
use crate::thumbnail::Method;

/// A worker that does what a script says.
fn workers(script: &str, deadline: Duration) -> Workers {
    Workers::new(WorkerSettings {
        command: ["sh", "-c", script].map(OsString::from).to_vec(),
        memory: 64 << 20,
        deadline,
    })
}

const SIZE: Wanted = Wanted {
    width: 32,
    height: 32,
    method: Method::Crop,
};

#[test]
fn one_that_loops_is_killed() {
    let workers = workers("while :; do :; done", Duration::from_millis(300));
    let began = Instant::now();
    let why = workers.make(b"picture", &[SIZE]).unwrap_err();
    assert!(why.contains("too long"), "{why}");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(workers.idle().is_empty());
}

#[test]
fn one_that_aborts_is_replaced() {
    let workers = workers("kill -ABRT $$", Duration::from_secs(60));
    for _ in 0..2 {
        assert!(workers.make(b"picture", &[SIZE]).is_err());
        assert!(workers.idle().is_empty());
    }
}

#[test]
fn one_that_eats_memory_ends() {
    let script = "x=aaaaaaaa; while :; do x=$x$x; done";
    let workers = workers(script, Duration::from_secs(60));
    let why = workers.make(b"picture", &[SIZE]).unwrap_err();
    assert!(!why.contains("too long"), "{why}");
}

#[test]
fn orders_and_answers_come_through_whole() {
    let mut order = Vec::new();
    wire::write_order(&mut order, b"picture", &[SIZE, Wanted::WHOLE]).unwrap();
    let read = wire::read_order(&mut &order[..]).unwrap().unwrap();
    assert_eq!(read, (b"picture".to_vec(), vec![SIZE, Wanted::WHOLE]));
    assert!(wire::read_order(&mut &[][..]).unwrap().is_none());
    assert!(wire::read_order(&mut &[255; 40][..]).is_err());
    let thumbnail = crate::Thumbnail {
        content_type: "image/png".to_owned(),
        bytes: b"bytes"[..].into(),
    };
    let as_it_is = Made::AsItIs("image/gif".to_owned());
    for answer in [
        Err("why".to_owned()),
        Ok(vec![Made::Thumbnail(thumbnail), as_it_is]),
    ] {
        let mut written = Vec::new();
        wire::write_answer(&mut written, &answer).unwrap();
        assert_eq!(wire::read_answer(&mut &written[..], 2).unwrap(), answer);
        // Cut anywhere it is no answer.
        for end in 0..written.len() {
            assert!(wire::read_answer(&mut &written[..end], 2).is_err());
        }
    }
}
