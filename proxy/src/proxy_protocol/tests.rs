#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

/// What is read, and what is left.
async fn parse(bytes: &[u8]) -> (Result<Option<SocketAddr>, &'static str>, Vec<u8>) {
    let mut rest = bytes;
    let read = read(&mut rest).await;
    (read, rest.to_vec())
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([command, family]);
    bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    bytes.extend(rest);
    bytes
}

#[tokio::test]
async fn lines() {
    for (line, is) in [
        (
            "PROXY TCP4 198.51.100.1 10.0.0.1 5000 443\r\n",
            Some("198.51.100.1:5000"),
        ),
        (
            "PROXY TCP6 2001:db8::1 ::1 5000 443\r\n",
            Some("[2001:db8::1]:5000"),
        ),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    ] {
        let (read, left) = parse(format!("{line}GET /").as_bytes()).await;
        assert_eq!(read.unwrap().map(|a| a.to_string()).as_deref(), is);
        assert_eq!(left, b"GET /");
    }
    let long = format!("PROXY TCP4 {}\r\n", "1".repeat(200));
    for line in [
        "GET / HTTP/1.1\r\n\r\n",
        "PROXY TCP4 198.51.100.1 10.0.0.1 5000\r\n",
        "PROXY TCP4 2001:db8::1 ::1 5000 443\r\n",
        "PROXY TCP6 198.51.100.1 10.0.0.1 5000 443\r\n",
        "PROXY TCP4 198.51.100.1 10.0.0.1 70000 443\r\n",
        "PROXY UDP4 198.51.100.1 10.0.0.1 5000 443\r\n",
        "PROXY TCP4",
        "PROXY",
        "",
        &long,
    ] {
        assert!(parse(line.as_bytes()).await.0.is_err(), "{line}");
    }
}

#[tokio::test]
async fn binary() {
    let four = [198, 51, 100, 1, 10, 0, 0, 1, 0x13, 0x88, 1, 187];
    let (read, left) = parse(&[v2(0x21, 0x11, &four), b"x".to_vec()].concat()).await;
    assert_eq!(read.unwrap().unwrap().to_string(), "198.51.100.1:5000");
    assert_eq!(left, b"x");
    let noted = [four.as_slice(), &[3, 0, 4, 1, 2, 3, 4]].concat();
    assert!(parse(&v2(0x21, 0x11, &noted)).await.0.unwrap().is_some());
    let mut six = [0; 36];
    six[..2].copy_from_slice(&[0x20, 1]);
    six[32..34].copy_from_slice(&[0x13, 0x88]);
    let (read, _) = parse(&v2(0x21, 0x21, &six)).await;
    assert_eq!(read.unwrap().unwrap().to_string(), "[2001::]:5000");
    for none in [
        v2(0x20, 0, &[]),
        v2(0x20, 0x11, &four),
        v2(0x21, 0, &[]),
        v2(0x21, 0x31, &[0; 216]),
    ] {
        assert_eq!(parse(&none).await.0, Ok(None));
    }
    for bad in [
        v2(0x31, 0x11, &four),
        v2(0x22, 0x11, &four),
        v2(0x21, 0x11, &four[..11]),
        v2(0x21, 0x21, &six[..35]),
        v2(0x21, 0x11, &[0; MAX_REST + 1]),
        v2(0x21, 0x11, &four)[..20].to_vec(),
        SIGNATURE.to_vec(),
    ] {
        assert!(parse(&bad).await.0.is_err(), "{bad:?}");
    }
}

/// Bytes from a simple generator, and good headers with one byte changed: never a panic.
#[tokio::test]
async fn garbage() {
    let mut seed = 1_u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 56) as u8
    };
    let good = [
        b"PROXY TCP4 198.51.100.1 10.0.0.1 5000 443\r\n".to_vec(),
        v2(0x21, 0x11, &[1; 12]),
        v2(0x21, 0x21, &[1; 36]),
    ];
    for round in 0..3000 {
        let mut bytes = good[round % 3].clone();
        for _ in 0..=round % 3 {
            let at = usize::from(next()) % bytes.len();
            bytes[at] = next();
        }
        let _ = parse(&bytes).await;
        let noise: Vec<u8> = (0..60).map(|_| next()).collect();
        assert!(parse(&noise).await.0.is_err());
    }
}
