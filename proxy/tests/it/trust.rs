//! Whose address counts, on real sockets.

use skerry_proxy::ClientHeader;

use super::*;

fn peer(header: &str) -> Vec<u8> {
    format!("GET /peer HTTP/1.1\r\nhost: x\r\n{header}connection: close\r\n\r\n").into_bytes()
}

async fn asked(running: &Running, bytes: &[u8]) -> String {
    let stream = TcpStream::connect(running.tcp()).await.unwrap();
    let answer = exchange(stream, bytes).await;
    answer.rsplit("\r\n").next().unwrap().to_owned()
}

#[tokio::test]
async fn a_forged_header_changes_nothing() {
    let ask = peer(
        "x-forwarded-for: 198.51.100.1\r\nforwarded: for=198.51.100.1\r\n\
         cf-connecting-ip: 198.51.100.1\r\n",
    );
    for header in [
        ClientHeader::XForwardedFor,
        ClientHeader::Forwarded,
        ClientHeader::CfConnectingIp,
    ] {
        for (trusted, is) in [
            (trusting(&["10.0.0.0/8", "cloudflare"]), "127.0.0.1"),
            (trusting(&["loopback"]), "198.51.100.1"),
        ] {
            let settings = Settings {
                client_header: header,
                ..trusted
            };
            let running = start_with(&spec(any_port(), None), settings).await;
            assert_eq!(asked(&running, &ask).await, is, "{header:?}");
        }
    }
}

#[tokio::test]
async fn a_proxy_on_a_unix_socket_counts_as_loopback() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.sock");
    let spec = spec(Addr::Unix(path.clone()), None);
    for (settings, is) in [
        (trusting(&["loopback"]), "198.51.100.1"),
        (trusting(&[]), "127.0.0.1"),
    ] {
        let running = start_with(&spec, settings).await;
        let stream = UnixStream::connect(&path).await.unwrap();
        let answer = exchange(stream, &peer("x-forwarded-for: 198.51.100.1\r\n")).await;
        assert!(answer.ends_with(is), "{answer}");
        running.stop.send_replace(true);
        running.serving.await.unwrap();
    }
}

const LINE: &[u8] = b"PROXY TCP4 198.51.100.1 10.0.0.1 5000 443\r\n";

/// Version 2: from 198.51.100.2, or from the proxy itself.
fn binary(command: u8) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([
        command, 0x11, 0, 12, 198, 51, 100, 2, 10, 0, 0, 1, 1, 1, 1, 187,
    ]);
    bytes
}

fn introduced(tls: Option<Tls>) -> ListenerSpec {
    ListenerSpec {
        proxy_protocol: true,
        ..spec(any_port(), tls)
    }
}

#[tokio::test]
async fn the_proxy_protocol_from_a_trusted_peer() {
    let running = start_with(&introduced(None), trusting(&["127.0.0.1"])).await;
    let with = |head: &[u8], header: &str| [head.to_vec(), peer(header)].concat();
    assert_eq!(asked(&running, &with(LINE, "")).await, "198.51.100.1");
    assert_eq!(
        asked(&running, &with(&binary(0x21), "")).await,
        "198.51.100.2"
    );
    assert_eq!(asked(&running, &with(&binary(0x20), "")).await, "127.0.0.1");
    // Whom it names is not trusted: its header says nothing.
    let forged = with(LINE, "x-forwarded-for: 6.6.6.6\r\n");
    assert_eq!(asked(&running, &forged).await, "198.51.100.1");
    // Without it, with half of it, with noise: dropped.
    for bytes in [
        peer(""),
        b"PROXY".to_vec(),
        LINE[..20].to_vec(),
        vec![0; 600],
        vec![0xff; 16],
    ] {
        assert_eq!(asked(&running, &bytes).await, "", "{bytes:?}");
    }
    assert_eq!(asked(&running, &with(LINE, "")).await, "198.51.100.1");
}

#[tokio::test]
async fn the_proxy_protocol_from_anybody_else_is_a_bad_request() {
    let running = start_with(&introduced(None), trusting(&["192.0.2.1"])).await;
    assert_eq!(asked(&running, &peer("")).await, "127.0.0.1");
    for head in [LINE.to_vec(), binary(0x21)] {
        let answer = asked(&running, &[head, peer("")].concat()).await;
        assert!(!answer.contains("198.51"), "{answer}");
    }
}

#[tokio::test]
async fn the_proxy_protocol_comes_before_tls_and_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, roots) = certificate(dir.path());
    let settings = Settings {
        limits: quick(),
        ..trusting(&["loopback"])
    };
    let running = start_with(&introduced(Some(tls)), settings).await;
    let mut tcp = TcpStream::connect(running.tcp()).await.unwrap();
    tcp.write_all(&binary(0x21)).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = connector(roots, &[]).connect(name, tcp).await.unwrap();
    assert!(exchange(stream, &peer("")).await.ends_with("198.51.100.2"));
    let mut silent = TcpStream::connect(running.tcp()).await.unwrap();
    silent.write_all(&LINE[..30]).await.unwrap();
    let begun = Instant::now();
    assert_eq!(silent.read(&mut [0; 10]).await.unwrap_or(0), 0);
    assert!(begun.elapsed() < Duration::from_secs(3));
}
