#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

#[test]
fn addresses_of_private_networks_are_not_public() {
    for address in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "192.0.0.8",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "fe80::1",
        "fc00::1",
        "fd12:3456::1",
        "fec0::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:c0a8:101::1",
        "2001::1",
        "2001:db8::1",
        "100::1",
        "3fff::1",
        "5f00::1",
    ] {
        assert!(!is_public(address.parse().unwrap()), "{address}");
    }
}

#[test]
fn addresses_of_the_internet_are_public() {
    for address in [
        "1.1.1.1",
        "100.63.0.1",
        "100.128.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "192.167.0.1",
        "198.20.0.1",
        "223.255.255.255",
        "2606:4700::1111",
        "2a01:4f8::1",
        "2001:4860::8888",
        "::ffff:1.1.1.1",
        "64:ff9b::101:101",
        "2002:101:101::1",
    ] {
        assert!(is_public(address.parse().unwrap()), "{address}");
    }
}

#[test]
fn what_is_named_is_allowed_and_nothing_beside_it() {
    let named = ["ntfy.lan", "192.168.7.0/24", "::1", "fd00::/8"].map(str::to_owned);
    let guard = Guard::new(false, &named).unwrap();
    let allows = |host: &str, address: &str| guard.allows(host, address.parse().unwrap());
    assert!(allows("ntfy.lan", "10.0.0.5"));
    assert!(allows("NTFY.lan.", "10.0.0.5"));
    assert!(!allows("other.lan", "10.0.0.5"));
    assert!(!allows("x.ntfy.lan", "10.0.0.5"));
    assert!(allows("any", "192.168.7.200"));
    assert!(allows("any", "::ffff:192.168.7.200"));
    assert!(!allows("any", "192.168.8.1"));
    assert!(allows("any", "::1"));
    assert!(!allows("any", "127.0.0.1"));
    assert!(allows("any", "fd99::1"));
    assert!(allows("any", "8.8.8.8"));
    assert!(Guard::open().allows("any", "127.0.0.1".parse().unwrap()));
}

#[test]
fn nonsense_is_no_exception() {
    for text in ["", "1.2.3.4/33", "::1/129", "http://a", "a b", "1.2.3.4/x"] {
        assert!(Guard::new(false, &[text.to_owned()]).is_err(), "{text}");
    }
}
