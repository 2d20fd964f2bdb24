#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::ErrorKind;

use http::StatusCode;

use skerry_remote::inspect as probe;

use super::super::clock::Told;
use super::super::services::{Relay, relay};
use super::super::{clock, data, names, outside, process};
use super::*;

#[test]
fn a_line_is_one_line() {
    let finding = Finding::wrong("dns", "a\nb\u{1b}[31m", "do it");
    assert_eq!(finding.line(), "wrong   dns          a b [31m: do it");
    assert_eq!(finding.json()["verdict"], "wrong");
    assert_eq!(
        Finding::ok("disk", "good").line(),
        "ok      disk         good"
    );
}

#[test]
fn secrets_are_for_their_owner() {
    let text = Ok("secret".to_owned());
    let judge = |mode, uid, text| data::secret("pepper", mode, uid, 1000, text);
    assert_eq!(judge(0o100_600, 1000, &text), None);
    let open = judge(0o100_640, 1000, &text).unwrap();
    assert_eq!(open.verdict, Verdict::Wrong);
    assert_eq!(open.advice, "chmod 600 pepper");
    let foreign = judge(0o100_600, 0, &text).unwrap();
    assert!(foreign.what.contains("another user"));
    let denied = Err("Permission denied".to_owned());
    let unreadable = judge(0o100_600, 1000, &denied).unwrap();
    assert!(
        unreadable
            .what
            .contains("cannot be read: Permission denied")
    );
    let empty = judge(0o100_600, 1000, &Ok("\n".to_owned())).unwrap();
    assert!(empty.what.contains("empty"));
    let dir = |mode, me| data::directory("data", true, mode, 1000, me);
    assert_eq!(dir(0o700, 1000), None);
    assert_eq!(dir(0o700, 0), None);
    assert_eq!(dir(0o755, 1000).unwrap().verdict, Verdict::Warn);
    assert_eq!(dir(0o700, 1001).unwrap().verdict, Verdict::Wrong);
    let file = data::directory("data", false, 0o700, 1000, 1000).unwrap();
    assert!(file.what.contains("not a directory"));
}

#[test]
fn the_disk_has_a_floor() {
    let gib = 1 << 30;
    assert_eq!(data::space(3 * gib, gib).verdict, Verdict::Ok);
    assert_eq!(data::space(gib + 1, gib).verdict, Verdict::Warn);
    let full = data::space(gib, gib);
    assert_eq!(full.verdict, Verdict::Wrong);
    assert!(full.line().contains("free_disk_floor"));
    assert_eq!(data::filesystem(0xef53).verdict, Verdict::Ok);
    assert!(data::filesystem(0x6969).what.contains("NFS"));
    assert!(data::filesystem(0x794c_7630).advice.contains("volume"));
}

#[test]
fn the_server_and_its_ports() {
    let gone = process::absent(ErrorKind::NotFound, "gone");
    assert_eq!(
        (gone.finding.verdict, gone.runs),
        (Verdict::Wrong, Some(false))
    );
    let closed = process::absent(ErrorKind::PermissionDenied, "denied");
    assert_eq!(
        (closed.finding.verdict, closed.runs),
        (Verdict::Unknown, None)
    );
    let well = process::health(Ok((StatusCode::OK, "ok".to_owned())));
    assert_eq!(well.verdict, Verdict::Ok);
    let full = (
        StatusCode::SERVICE_UNAVAILABLE,
        "the disk is full".to_owned(),
    );
    let full = process::health(Ok(full));
    assert!(full.what.contains("the disk is full") && full.verdict == Verdict::Wrong);
    assert_eq!(
        process::health(Err("lost".to_owned())).verdict,
        Verdict::Wrong
    );
    let refused = || Err("refused".to_owned());
    let judge = |runs, connected| process::judge_port("[::]:443", runs, connected);
    assert_eq!(judge(Some(true), Ok(())).verdict, Verdict::Ok);
    assert!(judge(Some(false), Ok(())).what.contains("another program"));
    assert!(judge(Some(true), refused()).advice.contains("Restart"));
    assert_eq!(judge(Some(false), refused()).verdict, Verdict::Wrong);
    let to = |text: &str| process::reachable(text.parse().unwrap()).map(|a| a.to_string());
    assert_eq!(to("0.0.0.0:80").unwrap(), "127.0.0.1:80");
    assert_eq!(to("[::]:80").unwrap(), "[::1]:80");
    assert_eq!(to("10.0.0.1:80").unwrap(), "10.0.0.1:80");
    assert_eq!(to("127.0.0.1:0"), None);
}

#[test]
fn dns() {
    let judge = |list: &[&str]| {
        let found = list.iter().map(|text| text.parse().unwrap()).collect();
        names::judge("example.org", &Ok(found)).verdict
    };
    assert_eq!(judge(&["9.9.9.9", "2620:fe::fe"]), Verdict::Ok);
    assert_eq!(judge(&["192.168.1.2"]), Verdict::Warn);
    assert_eq!(judge(&["9.9.9.9", "fd00::1"]), Verdict::Wrong);
    let none = names::judge("example.org", &Err("no records found for x".to_owned()));
    assert_eq!(none.verdict, Verdict::Wrong);
    assert!(none.line().contains("A record"));
    let offline = names::judge("example.org", &Err("request timed out".to_owned()));
    assert_eq!(offline.verdict, Verdict::Unknown);
    assert!(is_here("localhost") && is_here("127.0.0.1") && is_here("::1"));
    assert!(!is_here("example.org"));
    assert_eq!(host_of("[::1]:8448"), "::1");
    assert_eq!(host_of("example.org:8448"), "example.org");
}

#[test]
fn a_failed_hairpin_is_unknown() {
    let silent = probe::Unseen::NoConnection("no answer within 8 seconds".to_owned());
    let public = outside::not_seen("https://example.org at 9.9.9.9", &silent, true);
    assert_eq!(public.verdict, Verdict::Unknown);
    assert!(public.advice.contains("from outside"));
    let private = outside::not_seen("https://example.org at 10.0.0.1", &silent, false);
    assert_eq!(private.verdict, Verdict::Wrong);
    let no_tls = probe::Unseen::NoTls("garbage".to_owned());
    assert_eq!(
        outside::not_seen("x", &no_tls, true).verdict,
        Verdict::Wrong
    );
}

#[test]
fn the_clock() {
    let told = |ahead: i64, here| Told {
        host: "example.com".to_owned(),
        theirs_ms: NOW_MS,
        ours_ms: NOW_MS.saturating_add_signed(ahead * 1000),
        here,
    };
    assert_eq!(clock::judge(&[]).verdict, Verdict::Unknown);
    assert_eq!(clock::judge(&[told(0, true)]).verdict, Verdict::Unknown);
    assert_eq!(clock::judge(&[told(-2, false)]).verdict, Verdict::Ok);
    assert_eq!(clock::judge(&[told(30, false)]).verdict, Verdict::Warn);
    let late = clock::judge(&[told(-3600, false), told(0, true)]);
    assert_eq!(late.verdict, Verdict::Wrong);
    assert!(
        late.what.contains("3600 s behind that of example.com"),
        "{}",
        late.what
    );
    assert!(clock::judge(&[told(90, false)]).what.contains("ahead of"));
    let date = clock::date;
    assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777_000));
    assert_eq!(date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
    assert_eq!(date("Sat, 21 Nov 2026 00:00:00 GMT"), Some(NOW_MS));
    assert_eq!(date("Tue, 29 Feb 2000 00:00:00 GMT"), Some(951_782_400_000));
    for bad in [
        "",
        "now",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 25:00:00 GMT",
    ] {
        assert_eq!(date(bad), None, "{bad}");
    }
    assert_eq!(date("Sun, 06 Foo 1994 08:49:37 GMT"), None);
    assert_eq!(date("Sun, 06 Nov 99999999999999999 08:49:37 GMT"), None);
}

#[test]
fn relays() {
    let good = |host: &str, port, tcp| {
        Ok(Relay {
            host: host.to_owned(),
            port,
            tcp,
        })
    };
    assert_eq!(relay("turn:a.example"), good("a.example", 3478, false));
    assert_eq!(relay("turns:a.example"), good("a.example", 5349, true));
    assert_eq!(relay("turn:[::1]:99?transport=tcp"), good("::1", 99, true));
    assert_eq!(relay("turn:[::1]"), good("::1", 3478, false));
    assert!(relay("turn://a.example").unwrap_err().contains("slashes"));
    assert!(relay("turn:a.example:x").unwrap_err().contains("port"));
    assert!(relay("turn:a.example?transport=sctp").is_err());
    assert!(relay("turn:").unwrap_err().contains("no host"));
}

#[test]
fn origins() {
    let of = |text| Origin::of(text).map(|o| (o.host, o.port, o.tls));
    assert_eq!(
        of("https://a.example"),
        Some(("a.example".into(), 443, true))
    );
    assert_eq!(of("http://[::1]:8008"), Some(("::1".into(), 8008, false)));
    assert_eq!(
        of("wss://a.example/x"),
        Some(("a.example".into(), 443, true))
    );
    assert_eq!(of("nothing"), None);
}
