//! What Debian's testssl.sh says of the door, under a CA of the test's own.

use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, DnType, IsCa, Issuer, KeyPair,
};
use time::OffsetDateTime;

use super::*;

const NAME: &str = "skerry.test";
/// What is no matter of the door: the name is in no DNS.
const ELSEWHERE: &[&str] = &["DNS_CAArecord"];

/// The CA's certificate, and one for the door with its key, as files.
fn certificates(dir: &Path) {
    let now = OffsetDateTime::now_utc();
    let dated = |mut params: CertificateParams| {
        params.not_before = now - Duration::from_secs(86_400);
        params.not_after = now + Duration::from_secs(80 * 86_400);
        params
    };
    let mut ca = dated(CertificateParams::new(Vec::new()).unwrap());
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "Test CA");
    let ca_key = KeyPair::generate().unwrap();
    std::fs::write(dir.join("ca.pem"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let mut leaf = dated(CertificateParams::new(vec![NAME.to_owned()]).unwrap());
    leaf.distinguished_name.push(DnType::CommonName, NAME);
    leaf.crl_distribution_points = vec![CrlDistributionPoint {
        uris: vec!["http://ca.test/crl".to_owned()],
    }];
    let key = KeyPair::generate().unwrap();
    let issuer = Issuer::new(ca, ca_key);
    std::fs::write(
        dir.join("cert.pem"),
        leaf.signed_by(&key, &issuer).unwrap().pem(),
    )
    .unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
}

/// Values of a field in what testssl wrote, in order.
fn values<'a>(json: &'a str, field: &str) -> Vec<&'a str> {
    let before = format!("\"{field}\"");
    let rest = json.split(before.as_str()).skip(1);
    rest.filter_map(|rest| rest.split('"').nth(1)).collect()
}

/// Takes some minutes, so only where everything is tested.
#[test]
fn testssl_finds_nothing() {
    if std::env::var_os("SKERRY_TEST_EVERYTHING").is_none() {
        println!("left out: SKERRY_TEST_EVERYTHING is not set");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let mut command = skerry(dir.path());
    let listen = "[{ addr = \"127.0.0.1:0\", tls = { cert = \"cert.pem\", key = \"key.pem\" } }]";
    command
        .arg("serve")
        .env("SKERRY_SERVER_NAME", NAME)
        .env("SKERRY_LISTEN", listen);
    let running = Running::of(command);
    let line = running.lines.iter().find(|line| line.contains("https://"));
    let port = line.unwrap().rsplit(':').next().unwrap().trim();
    let output = Command::new("testssl")
        .current_dir(dir.path())
        .args([
            "--quiet",
            "--color",
            "0",
            "--warnings",
            "off",
            "--add-ca",
            "ca.pem",
        ])
        // Protocols, the server's defaults and preferences, headers, forward secrecy, and all
        // that is known to be wrong with servers.
        .args(["-p", "-s", "-f", "-P", "-S", "-h", "-U"])
        .args(["--ip", "127.0.0.1", "--jsonfile", "found.json"])
        .arg(format!("{NAME}:{port}"))
        .stdin(Stdio::null())
        .output()
        .expect("testssl.sh is not installed");
    running.ends_well("-TERM");
    let said = String::from_utf8_lossy(&output.stdout);
    let json = std::fs::read_to_string(dir.path().join("found.json")).expect(&said);
    let (ids, severities) = (values(&json, "id"), values(&json, "severity"));
    let findings = values(&json, "finding");
    assert!(ids.len() > 50 && ids.len() == severities.len(), "{said}");
    let bad: Vec<_> = ids
        .iter()
        .zip(&severities)
        .zip(&findings)
        .filter(|((id, severity), _)| {
            ["LOW", "MEDIUM", "HIGH", "CRITICAL"].contains(*severity) && !ELSEWHERE.contains(*id)
        })
        .collect();
    assert!(bad.is_empty(), "{bad:?}");
    // Versions from 3.2 on also grade.
    let grade = ids.iter().position(|id| *id == "overall_grade");
    if let Some(place) = grade {
        assert_eq!(findings[place], "A+", "{said}");
    }
}
