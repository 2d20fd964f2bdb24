#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use base64::Engine as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls_pki_types::CertificateDer;

use skerry_remote::inspect::{Condition, judge};

use super::super::certificate::{Eyes, finding};
use super::*;

type Ca = CertifiedIssuer<'static, KeyPair>;

/// A CA and the roots of those who believe it.
fn ca() -> (Ca, Roots) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();

    let roots = Roots::only(&[ca.der().clone()]).unwrap();
    (ca, roots)
}

fn params(name: &str, from: i32, until: (i32, u8, u8)) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(until.0, until.1, until.2);
    params
}

fn signed(ca: &Ca, params: CertificateParams) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    params.signed_by(&key, ca).unwrap().der().clone()
}

const DAY_MS: u64 = 86_400_000;

#[test]
fn good_soon_over_and_not_yet() {
    let (ca, roots) = ca();
    let ask = |from, until| {
        let leaf = signed(&ca, params("example.org", from, until));
        judge(&[leaf], &["example.org"], &roots, NOW_MS)
    };
    let good = ask(2026, (2027, 1, 20));
    assert_eq!(good, Condition::Good(NOW_MS + 60 * DAY_MS));
    let soon = ask(2026, (2026, 11, 30));
    assert_eq!(soon, Condition::Soon(NOW_MS + 9 * DAY_MS));
    let over = ask(2026, (2026, 11, 20));
    assert_eq!(over, Condition::Expired(NOW_MS - DAY_MS));
    assert!(matches!(ask(2027, (2028, 1, 1)), Condition::NotYet(_)));
    let says = |condition, eyes| finding(condition, "here", &["example.org"], eyes);
    assert_eq!(says(&good, Eyes::Clients).verdict, Verdict::Ok);
    let line = says(&soon, Eyes::Clients).line();
    assert!(line.starts_with("warn    certificate  here: it ends soon, on 2026-11-30: renew"));
    let over = says(&over, Eyes::Listener);
    assert_eq!(over.verdict, Verdict::Wrong);
    assert!(over.what.contains("ended on 2026-11-20"));
}

#[test]
fn names() {
    let (ca, roots) = ca();
    let leaf = [signed(&ca, params("other.example", 2026, (2028, 1, 1)))];
    let wrong = judge(
        &leaf,
        &["matrix.example.org", "example.org"],
        &roots,
        NOW_MS,
    );
    assert!(matches!(&wrong, Condition::WrongName(shown) if shown[0].contains("other.example")));
    let said = finding(&wrong, "here", &["example.org"], Eyes::Listener);
    assert_eq!(said.verdict, Verdict::Wrong);
    assert!(said.advice.contains("get one for example.org"));
    // One of the names is enough.
    let good = judge(&leaf, &["example.org", "other.example"], &roots, NOW_MS);
    assert!(matches!(good, Condition::Good(_)));
    let address = [signed(&ca, params("192.168.1.5", 2026, (2028, 1, 1)))];
    let good = judge(&address, &["192.168.1.5"], &roots, NOW_MS);
    assert!(matches!(good, Condition::Good(_)));
}

#[test]
fn who_signed() {
    let (_, roots) = ca();
    let (stranger, _) = ca();
    let names = ["example.org"];
    let by_stranger = signed(&stranger, params("example.org", 2026, (2028, 1, 1)));
    let unknown = judge(&[by_stranger], &names, &roots, NOW_MS);
    assert!(matches!(unknown, Condition::UnknownIssuer(_)));
    let alone = |is_ca| {
        let mut params = params("example.org", 2026, (2028, 1, 1));
        params.is_ca = is_ca;
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        judge(&[made.der().clone()], &names, &roots, NOW_MS)
    };
    // As openssl makes them, too.
    for is_ca in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let found = alone(is_ca);
        assert!(matches!(found, Condition::SelfSigned(_)), "{found:?}");
        let verdict = |eyes| finding(&found, "here", &names, eyes).verdict;
        assert_eq!(verdict(Eyes::Listener), Verdict::Warn);
        assert_eq!(verdict(Eyes::Clients), Verdict::Wrong);
    }
    assert!(matches!(
        judge(&[], &names, &roots, NOW_MS),
        Condition::Broken(_)
    ));
    let noise = [CertificateDer::from(vec![1, 2, 3])];
    assert!(matches!(
        judge(&noise, &names, &roots, NOW_MS),
        Condition::Broken(_)
    ));
}

#[test]
fn chains() {
    let (ca, roots) = ca();
    let mut between = CertificateParams::new(Vec::new()).unwrap();
    between.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    between
        .distinguished_name
        .push(rcgen::DnType::CommonName, "between");
    let between = CertifiedIssuer::signed_by(between, KeyPair::generate().unwrap(), &ca).unwrap();
    let leaf = signed(&between, params("example.org", 2026, (2028, 1, 1)));
    let whole = [leaf.clone(), between.der().clone()];
    let names = ["example.org"];
    assert!(matches!(
        judge(&whole, &names, &roots, NOW_MS),
        Condition::Good(_)
    ));
    let gap = judge(&[leaf], &names, &roots, NOW_MS);
    assert!(matches!(gap, Condition::UnknownIssuer(_)));
    let said = finding(&gap, "here", &names, Eyes::Clients);
    assert!(said.advice.contains("fullchain.pem"), "{}", said.line());
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n")
}

#[tokio::test]
async fn a_listener_is_judged_by_its_files_while_nothing_listens() {
    let (ca, roots) = ca();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let pair = KeyPair::generate().unwrap();
    let made = params("example.org", 2025, (2026, 1, 1))
        .signed_by(&pair, &ca)
        .unwrap();
    std::fs::write(&cert, pem("CERTIFICATE", made.der())).unwrap();
    std::fs::write(&key, pem("PRIVATE KEY", &pair.serialize_der())).unwrap();
    let mode = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&key, mode).unwrap();
    };
    mode(0o644);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let text = format!(
        "server_name = \"example.org\"\ndata_dir = \"{}\"\n\
         [[listen]]\naddr = \"{address}\"\ntls = {{ cert = \"{}\", key = \"{}\" }}\n",
        dir.path().display(),
        cert.display(),
        key.display()
    );
    let config = config(&text);
    let mut tools = tools(&[]);
    tools.roots = roots;
    let found = findings(&config, &tools).await;
    let over = the(&found, "certificate", "it ended on 2026-01-01");
    assert_eq!(over.verdict, Verdict::Wrong);
    let open = the(&found, "certificate", "everybody on this machine can read");
    assert_eq!(open.verdict, Verdict::Wrong);
    mode(0o640);
    std::fs::write(&cert, "nothing").unwrap();
    let found = findings(&config, &tools).await;
    assert_eq!(
        the(&found, "certificate", "cert.pem").verdict,
        Verdict::Wrong
    );
    let none = the(&found, "port", "nothing listens there");
    assert_eq!(none.verdict, Verdict::Wrong);
}

#[tokio::test]
async fn a_listener_that_answers_is_judged_by_what_it_shows() {
    let spec = skerry_proxy::ListenerSpec {
        tls: Some(skerry_proxy::Tls::SelfSigned {
            names: vec!["example.org".to_owned()],
        }),
        ..skerry_proxy::ListenerSpec::plain(
            "127.0.0.1:0".parse().map(skerry_proxy::Addr::Tcp).unwrap(),
        )
    };
    let listener = skerry_proxy::Listener::bind(&spec).await.unwrap();
    let address = listener.addr().clone();
    let router = axum::Router::new();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (_reload, reload) = tokio::sync::watch::channel(());
    let orders = skerry_proxy::Orders {
        stop: stopped,
        reload,
    };
    let config = config("server_name = \"example.org\"");
    let doors = vec![skerry_proxy::Door { listener, router }];
    let serving = tokio::spawn(skerry_proxy::serve(doors, config.front.clone(), orders));
    let spec = skerry_proxy::ListenerSpec {
        addr: address,
        ..spec
    };
    let tls = spec.tls.clone().unwrap();
    let found = super::super::certificate::listener(&config, &tools(&[]), &spec, &tls).await;
    let own = the(&found, "certificate", "it is self-signed");
    assert_eq!(own.verdict, Verdict::Warn);
    // Clients that come to the same door see no proxy in front.
    let skerry_proxy::Addr::Tcp(place) = &spec.addr else {
        panic!("an address");
    };
    let text = format!(
        "server_name = \"example.org\"\n[public]\nbase_url = \"https://example.org:{}\"\n",
        place.port()
    );
    let config = self::config(&text);
    let mut found = Vec::new();
    let tools = tools(&[("example.org", "127.0.0.1")]);
    super::super::outside::base_url(&config, &tools, &mut Vec::new(), &mut |f| found.push(f)).await;
    let refused = the(&found, "certificate", "it is self-signed");
    assert_eq!(refused.verdict, Verdict::Wrong);
    stop.send_replace(true);
    serving.await.unwrap();
}
