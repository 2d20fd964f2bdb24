//! Each limit at its end and beyond it.

use super::*;

fn port(limits: Limits) -> impl Future<Output = Running> {
    let spec = spec(any_port(), None);
    async move { start(&spec, limits).await }
}

async fn connect(running: &Running) -> TcpStream {
    TcpStream::connect(running.tcp()).await.unwrap()
}

/// How long it takes until the other side closes.
async fn closed_after(stream: &mut TcpStream) -> Duration {
    let begun = Instant::now();
    let reading = async { while stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {} };
    let waited = tokio::time::timeout(Duration::from_secs(10), reading).await;
    waited.expect("it stays open");
    begun.elapsed()
}

#[test]
fn the_defaults() {
    let limits = Limits::default();
    assert_eq!(limits.handshake, Duration::from_secs(10));
    assert_eq!(limits.headers, Duration::from_secs(10));
    assert_eq!(limits.head_bytes, 32 << 10);
    assert_eq!((limits.body_rate, limits.body_grace.as_secs()), (1024, 10));
    assert_eq!((limits.per_address, limits.max_connections), (256, 4096));
    assert_eq!(limits.requests, 200);
}

fn head_of(bytes: usize) -> Vec<u8> {
    let start = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-long: ";
    let fill = "x".repeat(bytes - start.len() - 4);
    format!("{start}{fill}\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn a_head_of_32_kib_and_a_longer_one() {
    let running = port(Limits::default()).await;
    let answer = exchange(connect(&running).await, &head_of(32 << 10)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for bytes in [(32 << 10) + 1, 64 << 10, 1 << 20] {
        let mut stream = connect(&running).await;
        let mut answer = Vec::new();
        // It may be answered before it is sent.
        let _ = stream.write_all(&head_of(bytes)).await;
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn slow_heads() {
    let running = port(Limits {
        headers: Duration::from_millis(800),
        ..quick()
    })
    .await;
    // In time, although in pieces; and a second one on the same connection.
    let mut stream = connect(&running).await;
    for _ in 0..2 {
        for piece in ["GET / HT", "TP/1.1\r\nhost", ": x\r\n\r\n"] {
            stream.write_all(piece.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        let mut answer = [0; 512];
        let read = stream.read(&mut answer).await.unwrap();
        assert!(answer[..read].ends_with(b"here"));
        // Longer than a head may take, but nothing is under way.
        tokio::time::sleep(Duration::from_millis(1000)).await;
    }
    // A byte now and then does not prolong it, on a fresh connection and on a used one.
    for used in [Some(stream), None] {
        let mut stream = match used {
            Some(stream) => stream,
            None => connect(&running).await,
        };
        let begun = Instant::now();
        let dripping = async {
            for byte in b"GET / HTTP/1.1\r\nhost: xxxxxxxxxxxxxxxxxx".iter().cycle() {
                if stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(8), dripping)
            .await
            .expect("it may drip for ever");
        assert!(begun.elapsed() > Duration::from_millis(600));
    }
    // Half-open: not a byte.
    let waited = closed_after(&mut connect(&running).await).await;
    assert!((600..4000).contains(&waited.as_millis()), "{waited:?}");
}

#[tokio::test]
async fn a_connection_that_is_not_used_is_closed() {
    let running = port(Limits {
        idle: Duration::from_millis(400),
        ..quick()
    })
    .await;
    let mut stream = connect(&running).await;
    let ask = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let waited = closed_after(&mut stream).await;
    assert!((300..4000).contains(&waited.as_millis()), "{waited:?}");
    // One that waits for its answer is used.
    let mut stream = connect(&running).await;
    stream
        .write_all(b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(1500), stream.read_u8());
    assert!(waiting.await.is_err(), "a waiting request was cut off");
}

#[tokio::test]
async fn slow_bodies() {
    let running = port(Limits {
        body_rate: 1000,
        body_grace: Duration::from_millis(500),
        ..quick()
    })
    .await;
    let send = async |piece: usize, pieces: usize| {
        let mut stream = connect(&running).await;
        let head = format!(
            "POST /size HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            piece * pieces
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..pieces {
            // It may have been answered already.
            if stream.write_all(&vec![b'x'; piece]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        exchange(stream, b"").await
    };
    // 2,000 a second for longer than the grace; then 100 a second.
    let answer = send(200, 15).await;
    assert!(answer.ends_with("3000"), "{answer}");
    let begun = Instant::now();
    let answer = send(10, 40).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(6));
}

#[tokio::test]
async fn who_does_not_read_is_let_go() {
    let running = port(Limits {
        stalled_write: Duration::from_millis(500),
        max_connections: 1,
        ..quick()
    })
    .await;
    let ask = b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut lazy = connect(&running).await;
    lazy.write_all(ask).await.unwrap();
    // There is one place, and it is free again.
    let next = tokio::time::timeout(
        Duration::from_secs(8),
        exchange(connect(&running).await, ASK),
    );
    assert!(next.await.unwrap().ends_with("here"));
    let mut rest = Vec::new();
    let _ = lazy.read_to_end(&mut rest).await;
    assert!(rest.len() < 8 << 20, "{}", rest.len());
    // Who reads slowly gets it all.
    let mut slow = connect(&running).await;
    slow.write_all(ask).await.unwrap();
    let (mut read, mut piece) = (0, vec![0; 1 << 20]);
    loop {
        let some = slow.read(&mut piece).await.unwrap();
        read += some;
        if some == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    assert!(read > 8 << 20, "{read}");
}

#[tokio::test]
async fn connections_of_one_address() {
    let limits = Limits {
        per_address: 3,
        headers: Duration::from_secs(20),
        ..Limits::default()
    };
    let running = port(limits).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(&running).await;
        stream.write_all(b"GET").await.unwrap();
        open.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(exchange(connect(&running).await, b"").await, "");
    drop(open.pop());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(
        exchange(connect(&running).await, ASK)
            .await
            .ends_with("here")
    );

    // A proxy is many people; and each of them is counted by the address it names.
    let settings = Settings {
        limits,
        ..trusting(&["loopback"])
    };
    let running = start_with(&spec(any_port(), None), settings.clone()).await;
    let mut many = Vec::new();
    for _ in 0..6 {
        many.push(connect(&running).await);
    }
    assert!(
        exchange(connect(&running).await, ASK)
            .await
            .ends_with("here")
    );
    let introduced = ListenerSpec {
        proxy_protocol: true,
        ..spec(any_port(), None)
    };
    let running = start_with(&introduced, settings).await;
    let line = |last: u8| format!("PROXY TCP6 2001:db8::{last} ::1 1 2\r\n").into_bytes();
    for last in 1..=3 {
        let mut stream = connect(&running).await;
        stream.write_all(&line(last)).await.unwrap();
        many.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let ask = [line(9), ASK.to_vec()].concat();
    assert_eq!(exchange(connect(&running).await, &ask).await, "");
    let other = b"PROXY TCP6 2001:db8:0:1::1 ::1 1 2\r\n".to_vec();
    let ask = [other, ASK.to_vec()].concat();
    assert!(
        exchange(connect(&running).await, &ask)
            .await
            .ends_with("here")
    );
}

#[tokio::test]
async fn the_default_of_256_and_unix_sockets() {
    let running = port(Limits::default()).await;
    let mut open = Vec::new();
    for _ in 0..256 {
        open.push(connect(&running).await);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(exchange(connect(&running).await, b"").await, "");
    open.pop();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(
        exchange(connect(&running).await, ASK)
            .await
            .ends_with("here")
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.sock");
    let limits = Limits {
        per_address: 2,
        ..Limits::default()
    };
    let _running = start(&spec(Addr::Unix(path.clone()), None), limits).await;
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(UnixStream::connect(&path).await.unwrap());
    }
    let stream = UnixStream::connect(&path).await.unwrap();
    assert!(exchange(stream, ASK).await.ends_with("here"));
}

#[tokio::test]
async fn a_slow_handshake() {
    let tls = Tls::SelfSigned {
        names: vec!["localhost".into()],
    };
    let limits = Limits {
        handshake: Duration::from_millis(600),
        ..Limits::default()
    };
    let running = start(&spec(any_port(), Some(tls)), limits).await;
    let mut stream = connect(&running).await;
    // The beginning of a handshake's record.
    stream.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    let waited = closed_after(&mut stream).await;
    assert!((400..4000).contains(&waited.as_millis()), "{waited:?}");
}

#[tokio::test]
async fn http_2_keeps_the_limits_of_time_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, roots) = certificate(dir.path());
    let running = start(&spec(any_port(), Some(tls)), quick()).await;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connector(roots, &[b"h2"])
        .connect(name, connect(&running).await)
        .await
        .unwrap();
    // The preface, and no request.
    let begun = Instant::now();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(5), reading)
        .await
        .expect("it stays open");
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn the_requests_of_one_address() {
    let limits = Limits {
        requests: 1,
        ..Limits::default()
    };
    let settings = Settings {
        limits,
        ..trusting(&["loopback"])
    };
    let running = start_with(&spec(any_port(), None), settings.clone()).await;
    let ask = async |from: &str| {
        let ask = format!("GET / HTTP/1.1\r\nhost: x\r\n{from}connection: close\r\n\r\n");
        exchange(connect(&running).await, ask.as_bytes()).await
    };
    let begun = Instant::now();
    let mut refused = None;
    for n in 0..40 {
        let answer = ask(&format!("x-forwarded-for: 2001:db8::{n}\r\n")).await;
        if answer.starts_with("HTTP/1.1 429") {
            refused = Some((n, answer));
            break;
        }
        assert!(answer.ends_with("here"), "{answer}");
    }
    let (n, answer) = refused.expect("a network may ask for ever");
    let most = 10 + begun.elapsed().as_secs() + 1;
    assert!((10..=most).contains(&n), "{n}");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    assert!(
        answer.contains("\"errcode\":\"M_LIMIT_EXCEEDED\""),
        "{answer}"
    );
    // Others may, and so may the proxy itself, and who does not come through it.
    let other = ask("x-forwarded-for: 2001:db8:0:1::1\r\n").await;
    assert!(other.ends_with("here"), "{other}");
    for _ in 0..30 {
        assert!(ask("").await.ends_with("here"));
    }
    // A connection counts as a request, where it is seen whose it is.
    let introduced = ListenerSpec {
        proxy_protocol: true,
        ..spec(any_port(), None)
    };
    let running = start_with(&introduced, settings.clone()).await;
    let ask = [&b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"[..], ASK].concat();
    let mut answered = 0;
    while exchange(connect(&running).await, &ask)
        .await
        .ends_with("here")
    {
        answered += 1;
        assert!(answered < 40, "it may connect for ever");
    }
    assert!(answered >= 5, "{answered}");
    let counted = settings.counters.counted();
    assert!(
        counted.refused >= 1 && counted.dropped + counted.refused >= 2,
        "{counted:?}"
    );
    assert!(
        counted.accepted > 40 && counted.open < counted.accepted,
        "{counted:?}"
    );
}
