#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Instant;

use super::*;
use crate::thumbnail::{Bounds, Made, Wanted};

/// A worker that does what a script says.
fn workers(script: &str, deadline: Duration) -> Workers {
    Workers::new(WorkerSettings {
        command: ["sh", "-c", script].map(OsString::from).to_vec(),
        memory: 64 << 20,
        deadline,
    })
}

fn order() -> Order {
    Order {
        sizes: vec![Wanted::all_standard()[3], Wanted::WHOLE],
        blurhash: true,
        bounds: Bounds {
            pixels: 1000,
            memory: 1 << 40,
        },
    }
}

#[test]
fn one_that_loops_is_killed() {
    let workers = workers("while :; do :; done", Duration::from_millis(300));
    let began = Instant::now();
    let why = workers.make(b"picture", &order()).unwrap_err();
    assert!(why.contains("too long"), "{why}");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(workers.idle().is_empty());
}

#[test]
fn one_that_aborts_is_replaced() {
    let workers = workers("kill -ABRT $$", Duration::from_secs(60));
    for _ in 0..2 {
        assert!(workers.make(b"picture", &order()).is_err());
        assert!(workers.idle().is_empty());
    }
}

#[test]
fn one_that_eats_memory_ends() {
    let script = "x=aaaaaaaa; while :; do x=$x$x; done";
    let workers = workers(script, Duration::from_secs(60));
    let why = workers.make(b"picture", &order()).unwrap_err();
    assert!(!why.contains("too long"), "{why}");
}

#[test]
fn one_that_has_worked_long_gets_no_other_picture() {
    // Says of two pictures that they are none.
    let script = "for n in 1 2; do printf '\\0\\0\\0\\0\\0\\0\\0\\0\\1?'; done; cat > /dev/null";
    let workers = workers(script, Duration::from_secs(60));
    assert_eq!(workers.make(b"picture", &order()).unwrap_err(), "?");
    let mut kept = workers.idle().pop().unwrap();
    kept.worked = WORKED_MAX;
    workers.idle().push(kept);
    assert_eq!(workers.make(b"picture", &order()).unwrap_err(), "?");
    assert!(workers.idle().is_empty());
}

#[test]
fn orders_and_answers_come_through_whole() {
    let mut written = Vec::new();
    wire::write_order(&mut written, b"picture", &order()).unwrap();
    let read = wire::read_order(&mut &written[..]).unwrap().unwrap();
    assert_eq!(read, (b"picture".to_vec(), order()));
    assert!(wire::read_order(&mut &[][..]).unwrap().is_none());
    assert!(wire::read_order(&mut &[255; 40][..]).is_err());
    let made = Made {
        content_type: "image/webp".to_owned(),
        animated: true,
        bytes: Some(b"bytes"[..].into()),
    };
    let as_it_is = Made {
        content_type: "image/gif".to_owned(),
        animated: false,
        bytes: None,
    };
    let drawn = Drawn {
        made: vec![made, as_it_is],
        blurhash: Some("LKO2".to_owned()),
    };
    for answer in [Err("why".to_owned()), Ok(drawn)] {
        let mut written = Vec::new();
        wire::write_answer(&mut written, &answer).unwrap();
        assert_eq!(wire::read_answer(&mut &written[..], 2).unwrap(), answer);
        // Cut anywhere it is no answer.
        for end in 0..written.len() {
            assert!(wire::read_answer(&mut &written[..end], 2).is_err());
        }
    }
}
