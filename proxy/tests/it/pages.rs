//! Headers and redirects, as they arrive.

use skerry_proxy::Hsts;

use super::*;

fn ask(path: &str, host: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").into_bytes()
}

/// The header of an answer, which has it at most once.
fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap();
    let mut found = head.lines().filter_map(|line| {
        let (own, value) = line.split_once(": ")?;
        own.eq_ignore_ascii_case(name).then_some(value)
    });
    let first = found.next();
    assert!(found.next().is_none(), "{name} is there twice: {answer}");
    first
}

async fn over_tls(files: Tls, roots: RootCertStore, hsts: Hsts, path: &str) -> String {
    let settings = Settings {
        hsts,
        ..Settings::default()
    };
    let running = start_with(&spec(any_port(), Some(files)), settings).await;
    let tcp = TcpStream::connect(running.tcp()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = connector(roots, &[]).connect(name, tcp).await.unwrap();
    exchange(stream, &ask(path, "x")).await
}

#[tokio::test]
async fn each_kind_of_answer_has_its_headers() {
    let running = start(&spec(any_port(), None), Limits::default()).await;
    let get = async |path: &str| {
        let stream = TcpStream::connect(running.tcp()).await.unwrap();
        exchange(stream, &ask(path, "x")).await
    };
    let (text, page, own) = (get("/").await, get("/page").await, get("/own").await);
    for answer in [&text, &page, &own] {
        assert_eq!(header(answer, "server"), None);
        assert_eq!(header(answer, "x-content-type-options"), Some("nosniff"));
        assert_eq!(header(answer, "strict-transport-security"), None);
    }
    assert_eq!(header(&text, "x-frame-options"), None);
    assert_eq!(header(&page, "x-frame-options"), Some("SAMEORIGIN"));
    assert_eq!(header(&own, "x-frame-options"), Some("DENY"));
    let csp = header(&page, "content-security-policy");
    assert_eq!(csp, Some("frame-ancestors 'self'"));
}

/// A certificate that an authority signed, and that authority.
fn signed(dir: &Path) -> (Tls, RootCertStore) {
    let (files, _) = certificate(dir);
    let Tls::Files(pairs) = &files else {
        panic!("files were asked for");
    };
    let CertFiles { cert, key } = &pairs[0];
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let common = rcgen::DnType::CommonName;
    params.distinguished_name.push(common, "A test's authority");
    let own = rcgen::KeyPair::generate().unwrap();
    let root = params.self_signed(&own).unwrap();
    let authority = rcgen::Issuer::new(params, own);
    let pair = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let made = params.signed_by(&pair, &authority).unwrap();
    std::fs::write(cert, pem("CERTIFICATE", made.der())).unwrap();
    std::fs::write(key, pem("PRIVATE KEY", &pair.serialize_der())).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone()).unwrap();
    (files, roots)
}

#[tokio::test]
async fn hsts_is_promised_only_under_a_certificate_that_somebody_signed() {
    let dir = tempfile::tempdir().unwrap();
    let (files, roots) = signed(dir.path());
    let all = Hsts {
        subdomains: true,
        preload: true,
    };
    for (hsts, is) in [
        (Hsts::default(), "max-age=63072000"),
        (all, "max-age=63072000; includeSubDomains; preload"),
    ] {
        let page = over_tls(files.clone(), roots.clone(), hsts, "/page").await;
        assert_eq!(header(&page, "strict-transport-security"), Some(is));
    }
    let text = over_tls(files, roots, all, "/").await;
    assert_eq!(header(&text, "strict-transport-security"), None);
    let (files, roots) = certificate(dir.path());
    let page = over_tls(files, roots, all, "/page").await;
    assert!(page.ends_with("here"));
    assert_eq!(header(&page, "strict-transport-security"), None);
}

#[tokio::test]
async fn a_redirect_leads_to_the_canonical_host_and_nowhere_else() {
    let redirecting = ListenerSpec {
        redirect: Some("https://example.org".to_owned()),
        ..spec(any_port(), None)
    };
    let running = start(&redirecting, Limits::default()).await;
    for (path, host, place) in [
        ("/", "example.org", "/"),
        ("/page?a=b&c=%20", "evil.example", "/page?a=b&c=%20"),
        ("//evil.example/x", "x", "//evil.example/x"),
        ("http://evil.example/x?y", "evil.example", "/x?y"),
        (
            "/_matrix/client/versions",
            "x:80",
            "/_matrix/client/versions",
        ),
    ] {
        let stream = TcpStream::connect(running.tcp()).await.unwrap();
        let answer = exchange(stream, &ask(path, host)).await;
        assert!(answer.starts_with("HTTP/1.1 308"), "{answer}");
        let wanted = format!("https://example.org{place}");
        assert_eq!(header(&answer, "location"), Some(&*wanted), "{path}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }
    for ask in [
        "POST /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi",
        "OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    ] {
        let stream = TcpStream::connect(running.tcp()).await.unwrap();
        let answer = exchange(stream, ask.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 308"), "{answer}");
    }
}

#[tokio::test]
async fn long_text_is_packed_for_those_who_take_it() {
    let running = start(&spec(any_port(), None), Limits::default()).await;
    let get = async |path: &str, header: &str| {
        let mut stream = TcpStream::connect(running.tcp()).await.unwrap();
        let ask = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{header}connection: close\r\n\r\n");
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let length = answer.len();
        (String::from_utf8_lossy(&answer).into_owned(), length)
    };
    let takes = "accept-encoding: gzip, br\r\n";
    let (packed, length) = get("/text", takes).await;
    assert_eq!(header(&packed, "content-encoding"), Some("br"));
    assert_eq!(header(&packed, "vary"), Some("accept-encoding"));
    assert!(length < 2000, "{length}");
    let (plain, length) = get("/text", "").await;
    assert_eq!(header(&plain, "content-encoding"), None);
    assert_eq!(header(&plain, "vary"), Some("accept-encoding"));
    assert!(length > 20_000, "{length}");
    let (short, _) = get("/", takes).await;
    assert_eq!(header(&short, "content-encoding"), None);
}
