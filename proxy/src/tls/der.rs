//! As much of a certificate's encoding as it takes to see who signed it (RFC 5280, 4.1).

const SEQUENCE: u8 = 0x30;
/// The version, which stands only in certificates that are not of the first.
const VERSION: u8 = 0xa0;

/// Whether a certificate names itself as its issuer. What cannot be read counts as such: nobody
/// can say who signed it.
pub(super) fn issuer_is_subject(certificate: &[u8]) -> bool {
    names(certificate).is_none_or(|(issuer, subject)| issuer == subject)
}

fn names(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let (certificate, _) = value(certificate, SEQUENCE)?;
    let (mut rest, _) = value(certificate, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        (_, rest) = value(rest, VERSION)?;
    }
    // The serial number, and the algorithm.
    (_, rest) = value(rest, 0x02)?;
    (_, rest) = value(rest, SEQUENCE)?;
    let (issuer, rest) = value(rest, SEQUENCE)?;
    // From when till when.
    let (_, rest) = value(rest, SEQUENCE)?;
    let (subject, _) = value(rest, SEQUENCE)?;
    Some((issuer, subject))
}

/// The content of what begins here, and what follows it.
fn value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (&short, rest) = rest.split_first()?;
    if first != tag {
        return None;
    }
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
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn who_signed_it() {
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        assert!(issuer_is_subject(own.cert.der()));
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        let name = rcgen::DnType::CommonName;
        params.distinguished_name.push(name, "A test's authority");
        let authority = rcgen::Issuer::new(params, key);
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let signed = params.signed_by(&key, &authority).unwrap();
        assert!(!issuer_is_subject(signed.der()));
        // Cut off anywhere: no panic.
        for end in 0..signed.der().len() {
            issuer_is_subject(&signed.der()[..end]);
        }
        assert!(issuer_is_subject(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]));
    }
}
