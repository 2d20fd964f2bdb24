//! Many servers.

use super::*;

/// What it takes to tell 500 servers, each of them over TLS on this machine: in `cargo test
/// -p skerry-remote fan_out -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn fan_out_to_500_servers() {
    let mut house = House::new();
    let mut fakes = Vec::new();
    for _ in 0..500 {
        fakes.push(house.world.server("one.test").await);
    }
    house.joined(ROOM, &fakes.iter().collect::<Vec<_>>());
    house.start();
    for round in ["with new connections", "with kept ones"] {
        let before: usize = fakes.iter().map(|fake| pdus(fake).len()).sum();
        let begun = std::time::Instant::now();
        for _ in 0..20 {
            house.event(ROOM, &[]);
        }
        let waiting = || fakes.iter().map(|fake| pdus(fake).len()).sum::<usize>() - before;
        while waiting() < 10_000 {
            assert!(begun.elapsed() < Duration::from_secs(120), "{}", waiting());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let sent: usize = fakes.iter().map(|fake| fake.asked_for(SEND).len()).sum();
        println!("{round}: {:?}, {sent} transactions so far", begun.elapsed());
    }
    house.stop().await;
}
