//! Many users in one room: what one of them changes costs no more than it must.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use skerry_account::PresenceState;

use crate::house::{House, Person};

/// Many people in as many rooms, all of them in each.
async fn crowd(house: &House, people: usize, rooms: usize) -> Vec<Person> {
    let mut all = Vec::new();
    for n in 0..people {
        all.push(house.person(&format!("p{n}")).await);
    }
    for _ in 0..rooms {
        let room = house.room(&all[0]).await;
        for person in &all[1..] {
            house.join(person, &room).await;
        }
    }
    all
}

/// How many notes were left, once the notifier has nothing more to follow.
async fn notes(house: &House) -> u64 {
    let mut seen = u64::MAX;
    loop {
        let now = house.sync.notes();
        if now == seen {
            return now;
        }
        seen = now;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// What is said of one user's devices is left once for each who may know, however many rooms
/// they share.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_devices_is_told_to_each_friend_once() {
    let house = House::new();
    let all = crowd(&house, 12, 15).await;
    let mut since = Vec::new();
    for person in &all {
        since.push(house.sync(person, None, "{}").await.next);
    }
    let before = notes(&house).await;
    let renamed = house
        .accounts
        .rename_device(all[0].user, &all[0].device, Some("new".into()));
    renamed.await.unwrap();
    // One for each of the twelve, and one for the user.
    let notes = notes(&house).await - before;
    assert!((12..=13).contains(&notes), "{notes}");
    for (person, since) in all.iter().zip(&since).skip(1) {
        let delta = house.sync(person, Some(*since), "{}").await;
        assert_eq!(delta.device_lists.changed, [all[0].id.clone()]);
    }
}

/// 500 users wait in one room while 100 of them come and go: they are woken a few times each,
/// not once for each change, and hear of everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presence_of_many_comes_together() {
    const PEOPLE: usize = 500;
    const MOVING: usize = 100;
    let house = Arc::new(House::new());
    let all = Arc::new(crowd(&house, PEOPLE, 1).await);
    let answers = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for n in MOVING..PEOPLE {
        let (house, all, answers) = (house.clone(), all.clone(), answers.clone());
        let mut since = house.sync(&all[n], None, "{}").await.next;
        tasks.push(tokio::spawn(async move {
            let mut heard = std::collections::HashSet::new();
            while heard.len() < MOVING {
                let request = all[n].request(Some(since), "{}");
                let timeout = Duration::from_secs(60);
                let delta = house.sync.wait(request, PresenceState::Offline, timeout);
                let delta = delta.await.unwrap();
                answers.fetch_add(1, Ordering::Relaxed);
                since = delta.next;
                heard.extend(delta.presence.into_iter().map(|view| view.user_id));
            }
        }));
    }
    let begun = std::time::Instant::now();
    for person in &all[..MOVING] {
        let board = house.accounts.presence();
        board.set(person.user, &person.device, PresenceState::Online, None);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    let took = begun.elapsed();
    let most = (PEOPLE - MOVING) * (3 + took.as_millis() as usize / 300);
    let answers = answers.load(Ordering::Relaxed);
    assert!(answers <= most, "{answers} answers in {took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
}
