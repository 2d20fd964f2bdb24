#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

const A: ServerNid = ServerNid(1);
const B: ServerNid = ServerNid(2);

fn name(server: ServerNid) -> Arc<str> {
    format!("{}.test", server.0).into()
}

fn waiting(pos: u64, room: u64, alone: bool) -> Waiting {
    Waiting {
        pos: Pos(pos),
        room: RoomNid(room),
        event: EventNid(pos),
        alone,
    }
}

fn owed(since: u64, alone: Option<u64>) -> Owed {
    Owed {
        since: Pos(since),
        alone: alone.map(EventNid),
    }
}

#[test]
fn a_server_has_one_turn_at_a_time_and_another_if_something_came() {
    let mut queues = Queues::default();
    let next = |queues: &mut Queues| queues.next(|_| true);
    queues.add(A, &name(A), waiting(1, 1, false));
    queues.add(A, &name(A), waiting(2, 1, false));
    queues.add(B, &name(B), waiting(1, 1, false));
    assert_eq!(next(&mut queues), Some(A));
    assert_eq!(next(&mut queues), Some(B));
    assert_eq!(next(&mut queues), None);
    queues.get_mut(A).unwrap().pdus.clear();
    queues.add(A, &name(A), waiting(3, 1, false));
    assert_eq!(next(&mut queues), None, "it is running");
    queues.ended(A, None);
    assert_eq!(next(&mut queues), Some(A));
    queues.ended(A, Some(100));
    queues.ended(B, Some(200));
    queues.add(A, &name(A), waiting(4, 1, false));
    assert_eq!(next(&mut queues), None, "it rests, whatever comes");
    assert_eq!(queues.rested_at(), Some(100));
    queues.wake_rested(100);
    queues.hurry(B);
    assert_eq!(next(&mut queues), Some(B), "it spoke to us");
    assert_eq!(next(&mut queues), Some(A));
    assert_eq!(queues.rested_at(), None);
    // One that spoke to us while it was being tried does not rest.
    queues.hurry(A);
    queues.ended(A, Some(900));
    assert_eq!(queues.rested_at(), None);
    assert_eq!(next(&mut queues), Some(A));
    // Who does not pass keeps its place.
    queues.ended(A, None);
    queues.ended(B, None);
    assert_eq!(queues.next(|queue| *queue.name == *name(B)), Some(B));
    assert_eq!(next(&mut queues), Some(A));
}

#[test]
fn who_misses_much_is_told_how_its_rooms_stand() {
    let mut queue = Queue::new(name(A));
    for n in 0..PDUS_MAX as u64 {
        queue.add(waiting(n, n % 3, false));
    }
    assert_eq!((queue.pdus.len(), queue.owed.len()), (PDUS_MAX, 0));
    queue.add(waiting(1_000, 3, false));
    queue.add(waiting(1_001, 1, true));
    assert!(queue.pdus.is_empty());
    let expected = [
        (RoomNid(0), owed(0, None)),
        (RoomNid(1), owed(1, Some(1_001))),
        (RoomNid(2), owed(2, None)),
        (RoomNid(3), owed(1_000, None)),
    ];
    assert_eq!(queue.owed, BTreeMap::from(expected.clone()));
    // The latest first; what comes for a room that is being told is not forgotten.
    queue.most = 2;
    let newest = HashMap::from([(3, 1_000), (1, 1_001), (2, 8)]);
    let newest = newest
        .into_iter()
        .map(|(room, event)| (RoomNid(room), EventNid(event)));
    let flight = queue.depart(5, &newest.collect());
    assert_eq!(flight.owed, [expected[1].clone(), expected[3].clone()]);
    queue.add(waiting(2_000, 3, true));
    queue.undo(flight);
    assert_eq!(queue.owed.len(), 4);
    assert_eq!(queue.owed[&RoomNid(3)], owed(1_000, Some(2_000)));
}

/// It does not depend on how much of it was under way when the rest came.
#[test]
fn what_is_under_way_is_missed_too() {
    for departed in [0, 50, 120] {
        let mut queues = Queues::default();
        for n in 0..=PDUS_MAX as u64 {
            if n == departed && n > 0 {
                assert_eq!(queues.next(|_| true), Some(A));
                let queue = queues.get_mut(A).unwrap();
                queue.flight = Some(queue.depart(5, &HashMap::new()));
                if n > 100 {
                    queue.missed();
                    queues.ended(A, Some(900));
                }
            }
            queues.add(A, &name(A), waiting(n, 1, false));
        }
        let queue = queues.get_mut(A).unwrap();
        // What is being sent at this moment is not taken out of the air.
        assert_eq!(queue.flight.is_some(), departed == 50);
        queue.missed();
        assert_eq!((queue.flight.is_none(), queue.pdus.len()), (true, 0));
        assert_eq!(queue.owed, BTreeMap::from([(RoomNid(1), owed(0, None))]));
    }
}

#[test]
fn what_departs_comes_back_in_its_order() {
    let mut queue = Queue::new(name(A));
    for n in 0..60 {
        queue.add(waiting(n, 1, false));
        queue
            .soon
            .add(Arc::new(SoonEdu::new("m.receipt", &n.to_string(), "1", 5)));
    }
    let before = queue.pdus.clone();
    queue.most = 70;
    let flight = queue.depart(5, &HashMap::new());
    assert_eq!((flight.pdus.len(), flight.soon.len()), (TXN_PDUS, 20));
    queue.flight = Some(flight);
    assert_eq!(queue.to_keep().behind, Some(Pos(0)), "it has not arrived");
    let flight = queue.flight.take().unwrap();
    assert_eq!(queue.to_keep().behind, Some(Pos(50)));
    queue.undo(flight);
    assert_eq!((queue.pdus.clone(), queue.soon.len()), (before, 60));
}

#[test]
fn what_would_not_be_true_any_more_is_said_anew() {
    let mut queue = Queue::new(name(A));
    for n in 0..3 {
        queue.add(waiting(n, 1, false));
    }
    let depart = |queue: &mut Queue| {
        let flight = queue.depart(5, &HashMap::new());
        queue.flight = Some(flight);
        queue.missed();
    };
    depart(&mut queue);
    let flight = queue.flight.take().unwrap();
    assert_eq!(flight.pdus.len(), 3, "events do not change");
    queue.undo(flight);
    queue
        .soon
        .add(Arc::new(SoonEdu::new("m.receipt", "a", "1", 5)));
    depart(&mut queue);
    assert!(queue.flight.is_none());
    assert_eq!((queue.pdus.len(), queue.soon.len()), (3, 1));
    // How rooms stand takes in what came while it was being told.
    queue.lag();
    let flight = queue.depart(5, &HashMap::new());
    queue.flight = Some(flight);
    queue.add(waiting(9, 2, false));
    assert_eq!(queue.pdus.len(), 1);
    queue.missed();
    assert_eq!((queue.flight.is_none(), queue.pdus.len()), (true, 0));
    let expected = [(RoomNid(1), owed(0, None)), (RoomNid(2), owed(9, None))];
    assert_eq!(queue.owed, BTreeMap::from(expected));
}

#[test]
fn who_turned_us_away_and_speaks_is_left_alone_for_less() {
    let mut queues = Queues::default();
    queues.add(A, &name(A), waiting(1, 1, false));
    assert_eq!(queues.next(|_| true), Some(A));
    queues.ended(A, Some(900));
    assert!(!queues.shorten(A, 100), "it was not reached");
    queues.hurry(A);
    assert_eq!(queues.next(|_| true), Some(A));
    queues.get_mut(A).unwrap().turned_away = 1;
    queues.ended(A, Some(900));
    assert!(queues.shorten(A, 100));
    assert!(!queues.shorten(A, 200), "never longer");
    assert_eq!(queues.rested_at(), Some(100));
    queues.wake_rested(100);
    assert_eq!(queues.next(|_| true), Some(A));
}
