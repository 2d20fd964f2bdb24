//! What a certificate says of itself (RFC 5280), as far as it matters for serving it.

use rustls_pki_types::CertificateDer;

/// What stands in the name of those who sign for trying things out at Let's Encrypt.
const STAGING: &[u8] = b"(STAGING)";

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The key identifier of whoever signed, inside its extension.
const KEY_IDENTIFIER: u8 = 0x80;
/// The version, which stands only in certificates that are not of the first.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// 2.5.29.35
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];

/// What a certificate says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// From when it is good, in ms since the epoch.
    pub(crate) from_ms: u64,
    /// Until when it is good, in ms since the epoch.
    pub(crate) until_ms: u64,
    /// Somebody else signed it, and not for trying things out: browsers can be told to rely on
    /// TLS here for years.
    pub(crate) promised: bool,
}

/// What a certificate says; none where it cannot be read.
pub(crate) fn facts(certificate: &CertificateDer<'_>) -> Option<Facts> {
    let Parts {
        issuer,
        validity,
        subject,
        ..
    } = parts(certificate)?;
    let staging = issuer.windows(STAGING.len()).any(|part| part == STAGING);
    let (from_ms, rest) = time(validity)?;
    let (until_ms, _) = time(rest)?;
    Some(Facts {
        from_ms,
        until_ms,
        promised: issuer != subject && !staging,
    })
}

/// By what a CA knows a certificate of its own: the key identifier of whoever signed, and the
/// serial number as it is encoded (RFC 9773, 4.1).
pub(crate) fn identity<'a>(certificate: &'a CertificateDer<'_>) -> Option<(&'a [u8], &'a [u8])> {
    let Parts {
        serial, mut rest, ..
    } = parts(certificate)?;
    let extensions = loop {
        let (tag, content, after) = any(rest)?;
        if tag == EXTENSIONS {
            break content;
        }
        rest = after;
    };
    let (mut extensions, _) = value(extensions, SEQUENCE)?;
    loop {
        let (extension, after) = value(extensions, SEQUENCE)?;
        let (name, mut content) = value(extension, OID)?;
        if name == AUTHORITY_KEY_IDENTIFIER {
            // Whether it is critical may stand between.
            while let Some((tag, inside, after)) = any(content) {
                if tag == OCTETS {
                    let (key, _) = value(inside, SEQUENCE)?;
                    return Some((value(key, KEY_IDENTIFIER)?.0, serial));
                }
                content = after;
            }
            return None;
        }
        extensions = after;
    }
}

/// As much of a certificate as matters here.
struct Parts<'a> {
    serial: &'a [u8],
    issuer: &'a [u8],
    validity: &'a [u8],
    subject: &'a [u8],
    /// What follows the subject.
    rest: &'a [u8],
}

fn parts(certificate: &[u8]) -> Option<Parts<'_>> {
    let (certificate, _) = value(certificate, SEQUENCE)?;
    let (mut rest, _) = value(certificate, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        (_, rest) = value(rest, VERSION)?;
    }
    let (serial, rest) = value(rest, INTEGER)?;
    // The algorithm.
    let (_, rest) = value(rest, SEQUENCE)?;
    let (issuer, rest) = value(rest, SEQUENCE)?;
    let (validity, rest) = value(rest, SEQUENCE)?;
    let (subject, rest) = value(rest, SEQUENCE)?;
    Some(Parts {
        serial,
        issuer,
        validity,
        subject,
        rest,
    })
}

/// The content of what begins here, which has to be of this kind, and what follows it.
fn value(bytes: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = any(bytes)?;
    (tag == wanted).then_some((content, rest))
}

/// The kind and the content of what begins here, and what follows it.
fn any(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (length, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        0x81..=0x84 => {
            let (long, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
            let length = long
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// A time in ms since the epoch, and what follows it (RFC 5280, 4.1.2.5).
fn time(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (tag, content, rest) = any(bytes)?;
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (year, text) = match (tag, text.len()) {
        (UTC_TIME, 12) => {
            let short: i64 = text.get(..2)?.parse().ok()?;
            let century = if short < 50 { 2000 } else { 1900 };
            (century + short, text.get(2..)?)
        }
        (GENERALIZED_TIME, 14) => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    let part = |at: usize| text.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day) = (part(0)?, part(2)?);
    let seconds = (part(4)? * 60 + part(6)?) * 60 + part(8)?;
    let ms = (days(year, month, day) * 86_400 + seconds) * 1000;
    Some((u64::try_from(ms).unwrap_or(0), rest))
}

/// Days from the epoch to a date of the Gregorian calendar. The year is taken to begin in March,
/// so that the day that some years have and others lack is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // From the first of March of the year 0 to the epoch.
    365 * year + leaps + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use rcgen::{CertificateParams, DnType, Issuer, KeyPair};

    use super::*;

    fn signed(by: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, by);
        let authority = Issuer::new(params, KeyPair::generate().unwrap());
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.signed_by(&key, &authority).unwrap().der().clone()
    }

    #[test]
    fn who_signed_it() {
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        assert!(!facts(own.cert.der()).unwrap().promised);
        assert!(facts(&signed("A test's authority")).unwrap().promised);
        let staging = signed("(STAGING) Wannabe Watercress R11");
        assert!(!facts(&staging).unwrap().promised);
    }

    #[test]
    fn until_when() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 3, 31);
        let own = params.self_signed(&key).unwrap();
        let found = facts(own.der()).unwrap();
        assert_eq!(found.from_ms, 1_767_225_600_000);
        assert_eq!(found.until_ms, 1_774_915_200_000);
    }

    #[test]
    fn dates() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 2, 29), 11_016);
        assert_eq!(days(2000, 3, 1), 11_017);
        assert_eq!(days(2100, 3, 1), 47_541);
        let at = |tag: u8, text: &str| {
            let mut bytes = vec![tag, u8::try_from(text.len()).unwrap()];
            bytes.extend(text.as_bytes());
            time(&bytes).map(|(ms, _)| ms)
        };
        assert_eq!(at(UTC_TIME, "700101000001Z"), Some(1000));
        assert_eq!(
            at(GENERALIZED_TIME, "20500101000000Z"),
            Some(2_524_608_000_000)
        );
        assert_eq!(at(UTC_TIME, "491231235959Z"), Some(2_524_607_999_000));
        for bad in ["", "Z", "700101000001", "7001010000+1Z", "70010100000Z"] {
            assert_eq!(at(UTC_TIME, bad), None, "{bad}");
        }
    }

    #[test]
    fn by_what_a_ca_knows_it() {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![0xc0, 0xff, 0xee]);
        let authority = Issuer::new(params, KeyPair::generate().unwrap());
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&[0xca, 0xfe]));
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &authority).unwrap();
        // A number whose first bit is set gets a byte before it.
        let wanted: (&[u8], &[u8]) = (&[0xc0, 0xff, 0xee], &[0, 0xca, 0xfe]);
        assert_eq!(identity(made.der()), Some(wanted));
        assert_eq!(identity(&signed("without")), None);
        for end in 0..made.der().len() {
            assert_eq!(identity(&CertificateDer::from(&made.der()[..end])), None);
        }
    }

    #[test]
    fn cut_off_anywhere() {
        let whole = signed("A test's authority");
        for end in 0..whole.len() {
            assert_eq!(facts(&CertificateDer::from(&whole[..end])), None, "{end}");
        }
    }
}
