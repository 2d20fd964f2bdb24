//! A crash at each step of a prune: the next start finds nothing missing and nothing left over.

use super::*;
use crate::tests::open_but;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_step_leaves_everything_fitting_together() {
    let mut w = world();
    let kept = w.put(b"kept", 1).await;
    w.named.add(&w.blobs().store, &kept);
    for n in 0..70_u8 {
        w.put(&[n; 10], 1).await;
        w.put_remote(&[n; 20], "a.example").await;
    }
    let copies = Arc::new(Mutex::new(Vec::new()));
    let (from, list) = (w.home.dir.path().to_owned(), Arc::clone(&copies));
    let told = Arc::new(move |step| {
        let dir = tempfile::tempdir().unwrap();
        copy(&from, dir.path());
        list.lock().unwrap().push((step, dir));
    });
    w.pruner = w.pruner.clone().told(told);
    w.prune(all()).await;
    let empty = Order {
        trash: Emptying::All,
        ..Order::default()
    };
    w.prune(empty).await;
    assert_eq!(blob_files(&w.home), 1);
    let copies = std::mem::take(&mut *copies.lock().unwrap());
    assert!(copies.len() > 12, "{}", copies.len());
    for (step, dir) in copies {
        let home = open_but(dir, |_| {});
        home.blobs.sweep().unwrap();
        assert!(is_here(&home.blobs, "localhost", &kept), "{step:?}");
        consistent(&home.blobs);
    }
}
