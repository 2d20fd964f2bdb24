//! Something comes to be needed at each point between plan and deletion, and survives.

use super::*;

/// What happens once, at a step.
fn at(step: Step, what: impl Fn() + Send + Sync + 'static) -> Arc<dyn Fn(Step) + Send + Sync> {
    let done = Mutex::new(false);
    Arc::new(move |now| {
        if now == step && !std::mem::replace(&mut *done.lock().unwrap(), true) {
            what();
        }
    })
}

const STEPS: [Step; 4] = [
    Step::Planned,
    Step::Checked,
    Step::Committed,
    Step::BeforeUnlink,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_named_at_any_point_before_its_deletion_survives() {
    for step in STEPS {
        for (way, order) in [("remote", all()), ("trash", all())] {
            let mut w = world();
            // Without a trash, so that everything goes at once.
            let (server, id) = if way == "remote" {
                ("a.example", w.put_remote(b"bytes", "a.example").await)
            } else {
                let id = w.put(b"bytes", 1).await;
                w.prune(all()).await;
                ("localhost", id)
            };
            let order = Order {
                trash: Emptying::All,
                ..order
            };
            let other = w.put_remote(b"other", "b.example").await;
            let (named, store) = (Arc::clone(&w.named), Arc::clone(&w.blobs().store));
            let chosen = id.clone();
            let told = at(step, move || named.add_of(&store, server, &chosen));
            w.pruner = w.pruner.clone().told(told);
            let progress = w.prune(order).await;
            assert!(is_here(w.blobs(), server, &id), "{way} {step:?}");
            assert!(!is_here(w.blobs(), "b.example", &other), "{way} {step:?}");
            assert_eq!(progress.revived, 1, "{way} {step:?}");
            w.check();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_named_after_it_went_to_the_trash_comes_back() {
    for step in STEPS {
        let mut w = world();
        let id = w.put(b"bytes", 1).await;
        let (named, store) = (Arc::clone(&w.named), Arc::clone(&w.blobs().store));
        let chosen = id.clone();
        w.pruner = w
            .pruner
            .clone()
            .told(at(step, move || named.add(&store, &chosen)));
        w.prune(all()).await;
        w.pruner.revive(None).await.unwrap();
        assert!(w.is_here(&id), "{step:?}");
        w.check();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_bytes_uploaded_at_any_point_are_there_afterwards() {
    for step in [Step::Planned, Step::Committed, Step::BeforeUnlink] {
        let mut w = world();
        w.put_remote(b"bytes", "a.example").await;
        let blobs = Arc::clone(w.blobs());
        let uploaded = Arc::new(Mutex::new(None));
        let (slot, handle) = (Arc::clone(&uploaded), tokio::runtime::Handle::current());
        w.pruner = w.pruner.clone().told(at(step, move || {
            let blobs = Arc::clone(&blobs);
            // Where the batch holds the lock of the hash, the upload waits for it.
            let slot = Arc::clone(&slot);
            let work = handle.spawn(async move { put(&blobs, b"bytes", 5).await });
            if step == Step::BeforeUnlink {
                let done = std::thread::scope(|s| {
                    let handle = &handle;
                    s.spawn(move || handle.block_on(work).unwrap())
                        .join()
                        .unwrap()
                });
                *slot.lock().unwrap() = Some(done);
            } else {
                let later = Arc::clone(&slot);
                handle.spawn(async move { *later.lock().unwrap() = Some(work.await.unwrap()) });
            }
        }));
        w.prune(all()).await;
        let id = loop {
            if let Some(id) = uploaded.lock().unwrap().clone() {
                break id;
            }
            tokio::task::yield_now().await;
        };
        assert!(w.is_here(&id), "{step:?}");
        w.check();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_protected_meanwhile_stays() {
    let w = world();
    let id = w.put(b"bytes", 1).await;
    let (number, _) = w.pruner.plan(all()).await.unwrap();
    let media = MediaId::parse(&id).unwrap();
    w.blobs().protect(media, true).await.unwrap();
    w.pruner.start(number).unwrap().ended().await;
    assert!(w.is_here(&id));
}
