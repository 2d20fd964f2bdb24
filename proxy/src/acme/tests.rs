#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! The keeper with a CA that does what the test says.

use std::sync::atomic::{AtomicUsize, Ordering};

use rustls_pki_types::CertificateDer;

use super::issuer::{Advice, Answer, Failure, Order, Stage};
use super::*;

struct Fake {
    /// The names that it refuses.
    refuses: Vec<&'static str>,
    orders: AtomicUsize,
}

impl Issuer for Fake {
    fn issue<'a>(&'a self, order: Order<'a>) -> Answer<'a, Result<Vec<u8>, Failure>> {
        Box::pin(async move {
            self.orders.fetch_add(1, Ordering::Relaxed);
            if self.refuses.contains(&order.name) {
                return Err(Failure {
                    words: format!("no such name as {}", order.name),
                    stage: Stage::Validation,
                    retry_after: None,
                });
            }
            let made = rcgen::generate_simple_self_signed(vec![order.name.to_owned()]).unwrap();
            Ok(format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem()).into_bytes())
        })
    }

    fn advice<'a>(&'a self, _: &'a CertificateDer<'a>) -> Answer<'a, Option<Advice>> {
        Box::pin(async { None })
    }
}

fn settings(dir: &std::path::Path, first_wait: Duration) -> AcmeSettings {
    AcmeSettings {
        directory: "https://ca.example/dir".to_owned(),
        email: String::new(),
        names: vec!["a.example".to_owned(), "b.example".to_owned()],
        challenge: Challenge::Only(ChallengeKind::Http01),
        dns_hook: None,
        eab: None,
        dir: dir.to_owned(),
        elsewhere: Trusted::default(),
        first_wait,
    }
}

fn opened(settings: &AcmeSettings, refuses: &[&'static str]) -> (Acme, Arc<Fake>) {
    let fake = Arc::new(Fake {
        refuses: refuses.to_vec(),
        orders: AtomicUsize::new(0),
    });
    let cache = Cache::new(&settings.dir, &settings.directory);
    let issuer = Arc::clone(&fake) as Arc<dyn Issuer>;
    (Acme::with(settings.clone(), cache, issuer).unwrap(), fake)
}

async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it does not come about");
}

#[tokio::test]
async fn one_name_is_refused_and_the_other_is_served_and_both_are_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), Duration::from_secs(3600));
    let (acme, fake) = opened(&settings, &["a.example"]);
    let fallback = acme.certificate(Some("a.example"));
    let (stop, stopped) = watch::channel(false);
    let (asked, ask) = watch::channel(());
    let running = tokio::spawn(acme.clone().run(ask, stopped));
    let trouble = |acme: &Acme| acme.standings()[0].trouble.clone();
    until(|| acme.standings()[1].until_ms.is_some() && trouble(&acme).is_some()).await;
    assert!(Arc::ptr_eq(&acme.certificate(Some("a.example")), &fallback));
    assert!(!Arc::ptr_eq(
        &acme.certificate(Some("b.example")),
        &fallback
    ));
    // Who asks for nothing we know gets what can be believed.
    let stranger = acme.certificate(Some("x.example"));
    assert!(Arc::ptr_eq(&stranger, &acme.certificate(Some("b.example"))));
    let said = trouble(&acme).unwrap();
    assert_eq!(
        (said.failures, &*said.words),
        (1, "no such name as a.example")
    );
    assert!(said.next_try_ms > now_ms() + 3_500_000);

    // Somebody asks: our own wait is passed over.
    asked.send_replace(());
    until(|| trouble(&acme).is_some_and(|trouble| trouble.failures == 2)).await;
    assert_eq!(fake.orders.load(Ordering::Relaxed), 3);
    stop.send_replace(true);
    running.await.unwrap();
    assert_eq!(standings(&settings), acme.standings());

    // The next start asks nobody: one has its certificate, the other has to wait.
    let (acme, fake) = opened(&settings, &[]);
    assert!(acme.standings()[1].until_ms.is_some());
    let (stop, stopped) = watch::channel(false);
    let (_asked, ask) = watch::channel(());
    let running = tokio::spawn(acme.clone().run(ask, stopped));
    tokio::time::sleep(Duration::from_millis(200)).await;
    stop.send_replace(true);
    running.await.unwrap();
    assert_eq!(fake.orders.load(Ordering::Relaxed), 0);
}

#[test]
fn names_that_a_ca_can_sign_for() {
    for good in ["example.org", "a-b.example.co", "xn--bcher-kva.example"] {
        assert!(can_have_certificate(good), "{good}");
    }
    for bad in [
        "localhost",
        "x.localhost",
        "192.0.2.1",
        "host",
        "*.example.org",
        "a..b",
        "../etc.passwd",
        "-a.example",
        "",
    ] {
        assert!(!can_have_certificate(bad), "{bad}");
    }
}
