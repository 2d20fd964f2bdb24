//! Certificates from a real CA: Debian's `pebble`, which looks whether names are ours and refuses
//! a good nonce now and then, with `pebble-challtestsrv` as its DNS.

mod faults;
mod pebble;

use skerry_proxy::{Acme, AcmeSettings, Challenge, ChallengeKind, Eab, Standing};

use super::*;

use faults::{Fault, Faults};
use pebble::Pebble;

/// A running server whose certificates come from a CA.
struct Site {
    acme: Acme,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    https: SocketAddr,
}

fn settings(pebble: &Pebble, dir: &Path, names: &[&str], challenge: Challenge) -> AcmeSettings {
    AcmeSettings {
        directory: pebble.directory(),
        email: "me@example.org".to_owned(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        challenge,
        dns_hook: None,
        eab: None,
        dir: dir.to_owned(),
        elsewhere: Trusted::default(),
        first_wait: Duration::from_millis(100),
    }
}

impl Site {
    /// Opens the ports at which the CA looks.
    async fn open(pebble: &Pebble, settings: AcmeSettings) -> Site {
        let acme = Acme::open(settings, pebble.trust()).unwrap();
        let addr = |port| Addr::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
        let https = spec(addr(pebble.tls_port), Some(Tls::Acme));
        let http = ListenerSpec {
            redirect: Some("https://example.org".to_owned()),
            ..spec(addr(pebble.http_port), None)
        };
        let mut inherited = skerry_proxy::Inherited::default();
        let mut doors = Vec::new();
        for spec in [https, http] {
            let opened = Listener::open(&spec, &mut inherited, Some(&acme)).await;
            for listener in opened.unwrap() {
                let router = router();
                doors.push(Door { listener, router });
            }
        }
        let (stop, stopped) = watch::channel(false);
        let (_, reload) = watch::channel(());
        let orders = Orders {
            stop: stopped,
            reload,
        };
        let settings = Settings {
            acme: Some(acme.clone()),
            ..Settings::default()
        };
        Site {
            acme,
            stop,
            serving: tokio::spawn(serve(doors, settings, orders)),
            https: SocketAddr::from(([127, 0, 0, 1], pebble.tls_port)),
        }
    }

    async fn close(self) {
        self.stop.send_replace(true);
        self.serving.await.unwrap();
    }

    fn standing(&self, name: &str) -> Standing {
        let all = self.acme.standings();
        all.into_iter().find(|one| one.name == name).unwrap()
    }

    async fn until(&self, name: &str, what: impl Fn(&Standing) -> bool) -> Standing {
        for _ in 0..600 {
            let standing = self.standing(name);
            if what(&standing) {
                return standing;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{:?}", self.standing(name));
    }

    async fn issued(&self, name: &str) -> Standing {
        self.until(name, |standing| standing.until_ms.is_some())
            .await
    }

    /// A handshake by somebody who believes these roots.
    async fn visit(
        &self,
        name: &'static str,
        roots: &RootCertStore,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.https).await?;
        let name = ServerName::try_from(name).unwrap();
        connector(roots.clone(), &[]).connect(name, tcp).await
    }
}

fn only(kind: ChallengeKind) -> Challenge {
    Challenge::Only(kind)
}

#[tokio::test]
async fn by_tls_alpn_while_connections_stay_open() {
    let Some(pebble) = Pebble::start().await else {
        return;
    };
    let faults = Faults::start(&pebble).await;
    // It is not there at first.
    faults.add("/dir", Fault::Status(503));
    faults.add("/dir", Fault::Status(503));
    let dir = tempfile::tempdir().unwrap();
    let mut wanted = settings(&pebble, dir.path(), &["a.example"], Challenge::Auto);
    wanted.directory = faults.directory();
    wanted.first_wait = Duration::from_millis(700);
    let site = Site::open(&pebble, wanted.clone()).await;
    // Until there is one, a self-signed one is served, and what is wrong is said.
    let anybody = pebble::trusting_anybody();
    let tcp = TcpStream::connect(site.https).await.unwrap();
    let name = ServerName::try_from("a.example").unwrap();
    let mut early = anybody.connect(name, tcp).await.unwrap();
    let said = site
        .until("a.example", |standing| standing.trouble.is_some())
        .await;
    assert!(said.trouble.unwrap().words.contains("503"));

    let roots = pebble.roots().await;
    assert!(site.visit("a.example", &roots).await.is_err());
    let standing = site.issued("a.example").await;
    assert_eq!(standing.trouble, None);
    let stream = site.visit("a.example", &roots).await.unwrap();
    assert!(exchange(stream, ASK).await.ends_with("here"));
    // Who came before goes on.
    assert!(exchange(&mut early, ASK).await.ends_with("here"));
    // A CA's greeting while nothing is looked at ends at once.
    let tcp = TcpStream::connect(site.https).await.unwrap();
    let name = ServerName::try_from("a.example").unwrap();
    let greeting = connector(roots.clone(), &[b"acme-tls/1"]);
    assert!(greeting.connect(name, tcp).await.is_err());
    site.close().await;

    // The next start needs nobody, and one more name no second account.
    wanted.names.push("b.example".to_owned());
    let site = Site::open(&pebble, wanted).await;
    assert_eq!(site.standing("a.example").until_ms, standing.until_ms);
    site.issued("b.example").await;
    let own = site.visit("b.example", &roots).await.unwrap();
    let leaf = own.get_ref().1.peer_certificates().unwrap()[0].clone();
    let other = site.visit("a.example", &roots).await.unwrap();
    assert_ne!(leaf, other.get_ref().1.peer_certificates().unwrap()[0]);
    assert_eq!(faults.count("/sign-me-up"), 1);
    site.close().await;
}

#[tokio::test]
async fn by_http_beside_the_redirect() {
    let Some(pebble) = Pebble::start().await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let wanted = settings(
        &pebble,
        dir.path(),
        &["a.example"],
        only(ChallengeKind::Http01),
    );
    let site = Site::open(&pebble, wanted).await;
    site.issued("a.example").await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let http = SocketAddr::from(([127, 0, 0, 1], pebble.http_port));
    let tcp = TcpStream::connect(http).await.unwrap();
    let answer = exchange(tcp, get("/.well-known/acme-challenge/none").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let tcp = TcpStream::connect(http).await.unwrap();
    let answer = exchange(tcp, get("/x").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 308"), "{answer}");
    // Only a certificate that somebody signed is promised to browsers.
    let roots = pebble.roots().await;
    let stream = site.visit("a.example", &roots).await.unwrap();
    let page = exchange(stream, get("/page").as_bytes()).await;
    assert!(
        page.contains("strict-transport-security: max-age=63072000\r\n"),
        "{page}"
    );
    site.close().await;
}

#[tokio::test]
async fn a_closed_port_443_is_not_the_end() {
    let Some(pebble) = Pebble::start().await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let wanted = settings(&pebble, dir.path(), &["a.example"], Challenge::Auto);
    let mut elsewhere = pebble.clone_ports();
    // The CA looks at a port at which nobody listens.
    elsewhere.tls_port = pebble::free_port();
    let site = Site::open(&elsewhere, wanted).await;
    let trouble = |standing: &Standing| standing.trouble.is_some();
    let said = site.until("a.example", trouble).await.trouble.unwrap();
    assert_eq!(said.challenge, ChallengeKind::TlsAlpn01);
    assert!(said.words.contains("connect"), "{said:?}");
    site.issued("a.example").await;
    assert_eq!(site.standing("a.example").trouble, None);
    site.close().await;
}

#[tokio::test]
async fn one_of_two_names_fails_and_the_other_does_not_wait() {
    let Some(pebble) = Pebble::start().await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens at the first one's address; the CA does not sign for the last one at all.
    pebble.point("a.example", "127.0.0.9").await;
    let names = ["a.example", "b.example", "blocked-domain.example"];
    let wanted = settings(&pebble, dir.path(), &names, only(ChallengeKind::Http01));
    let begun = Instant::now();
    let site = Site::open(&pebble, wanted).await;
    site.issued("b.example").await;
    assert!(begun.elapsed() < Duration::from_secs(20));
    for name in ["a.example", "blocked-domain.example"] {
        let bad = site
            .until(name, |standing| standing.trouble.is_some())
            .await;
        assert_eq!(bad.until_ms, None);
        assert!(!bad.trouble.unwrap().words.is_empty());
    }
    site.close().await;
}

#[tokio::test]
async fn by_dns_with_a_program_and_an_account_elsewhere() {
    let Some(pebble) = Pebble::start_bound().await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, format!("{}\n", pebble::EAB_KEY)).unwrap();
    let mut wanted = settings(&pebble, dir.path(), &["a.example"], Challenge::Auto);
    wanted.dns_hook = Some(pebble.dns_hook(dir.path()));
    // Without the account elsewhere it is refused, and says so.
    let site = Site::open(&pebble, wanted.clone()).await;
    let bad = site
        .until("a.example", |standing| standing.trouble.is_some())
        .await;
    let words = bad.trouble.unwrap().words;
    assert!(words.to_lowercase().contains("external"), "{words}");
    site.close().await;
    wanted.eab = Some(Eab {
        key_id: pebble::EAB_ID.to_owned(),
        hmac_key_file: key,
    });
    let site = Site::open(&pebble, wanted).await;
    site.issued("a.example").await;
    let heard = std::fs::read_to_string(dir.path().join("heard")).unwrap();
    let mut lines = heard.lines();
    assert!(
        lines
            .next()
            .unwrap()
            .starts_with("present _acme-challenge.a.example ")
    );
    assert!(
        lines
            .next()
            .unwrap()
            .starts_with("cleanup _acme-challenge.a.example ")
    );
    site.close().await;
}

#[tokio::test]
async fn a_certificate_about_to_end_is_renewed_and_replaced() {
    let Some(pebble) = Pebble::start().await else {
        return;
    };
    let faults = Faults::start(&pebble).await;
    let dir = tempfile::tempdir().unwrap();
    let mut wanted = settings(
        &pebble,
        dir.path(),
        &["a.example"],
        only(ChallengeKind::Http01),
    );
    wanted.directory = faults.directory();
    let site = Site::open(&pebble, wanted.clone()).await;
    let first = site.issued("a.example").await;
    site.close().await;
    // In its place one that ends tomorrow.
    let planted = pebble.plant(dir.path(), "a.example");
    let site = Site::open(&pebble, wanted.clone()).await;
    assert_eq!(site.standing("a.example").until_ms, Some(planted));
    let renewed = |standing: &Standing| standing.until_ms > Some(planted);
    let second = site.until("a.example", renewed).await;
    assert!(second.until_ms >= first.until_ms);
    site.close().await;

    // A good one, but the CA says that it has to go: it hears which one is replaced.
    faults.advise_now();
    let site = Site::open(&pebble, wanted).await;
    let roots = pebble.roots().await;
    let shown = |stream: &tokio_rustls::client::TlsStream<TcpStream>| {
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let before = shown(&site.visit("a.example", &roots).await.unwrap());
    let mut after = before.clone();
    for _ in 0..400 {
        if after != before && faults.replaced().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        after = shown(&site.visit("a.example", &roots).await.unwrap());
    }
    assert_ne!(after, before);
    assert!(faults.replaced().unwrap().contains('.'));
    site.close().await;
}

#[tokio::test]
async fn a_ca_in_trouble_is_obeyed() {
    let Some(pebble) = Pebble::start().await else {
        return;
    };
    let faults = Faults::start(&pebble).await;
    faults.add("order-plz", Fault::Limited(3));
    faults.add("order-plz", Fault::Cut);
    let dir = tempfile::tempdir().unwrap();
    let mut wanted = settings(
        &pebble,
        dir.path(),
        &["a.example"],
        only(ChallengeKind::Http01),
    );
    wanted.directory = faults.directory();
    let site = Site::open(&pebble, wanted).await;
    let limited = site
        .until("a.example", |standing| standing.trouble.is_some())
        .await;
    let said = limited.trouble.unwrap();
    assert!(said.words.contains("too many"), "{said:?}");
    let since = Instant::now();
    let cut = |standing: &Standing| standing.trouble.as_ref().is_some_and(|t| t.failures == 2);
    let said = site.until("a.example", cut).await.trouble.unwrap();
    assert!(since.elapsed() > Duration::from_secs(2), "{said:?}");
    assert!(said.words.contains("broke off"), "{said:?}");
    site.issued("a.example").await;
    site.close().await;
}
