#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::raw::RawConfig;
use super::*;

fn none() -> std::iter::Empty<(String, String)> {
    std::iter::empty()
}

fn with(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let pairs = pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Config::from_text("", pairs.collect::<Vec<_>>().into_iter())
}

fn refused(text: &str) -> String {
    Config::from_text(text, none()).unwrap_err().0
}

#[test]
fn nothing_at_all_is_a_server_on_localhost() {
    let config = Config::from_text("", none()).unwrap();
    assert_eq!(&*config.server_name, "localhost");
    assert_eq!(config.data_dir, Path::new("./data"));
    assert_eq!(config.base_url, "http://localhost:8008");
    assert_eq!(config.listen.len(), 1);
    assert_eq!(config.listen[0].addr.to_string(), "127.0.0.1:8008");
    assert!(config.registration.enabled && !config.registration.open);
    assert_eq!(config.default_room_version, RoomVersion::V12);
    assert!(config.ignored.is_empty(), "{:?}", config.ignored);
}

#[test]
fn every_option_is_documented_and_every_document_is_an_option() {
    // These are values of one option, not sections.
    fn is_value(key: &str) -> bool {
        key == "acme.eab" || key.starts_with("rate_limit.")
    }
    fn keys(prefix: &str, table: &Table, out: &mut Vec<String>) {
        for (key, value) in table {
            let key = format!("{prefix}{key}");
            match value {
                Value::Table(inner) if !inner.is_empty() && !is_value(&key) => {
                    keys(&format!("{key}."), inner, out);
                }
                _ => out.push(key),
            }
        }
    }
    let mut options = Vec::new();
    keys("", &docs::defaults(), &mut options);
    let mut documented: Vec<String> = DOCS.iter().map(|doc| doc.key.to_owned()).collect();
    options.sort();
    documented.sort();
    assert_eq!(options, documented);
}

/// Regenerate with `skerry check-config --print-example > skerry.example.toml`.
#[test]
fn the_example_file_is_the_list_of_options() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../skerry.example.toml");
    assert_eq!(std::fs::read_to_string(path).unwrap(), example());
    let read: RawConfig = toml::from_str(&example()).unwrap();
    assert_eq!(read, RawConfig::default());
}

#[test]
fn what_the_conformance_tests_write_is_accepted() {
    let text = r#"
        server_name = "localhost:8801"
        data_dir = "/tmp/x/data"
        [[listen]]
        addr = "127.0.0.1:8800"
        [[listen]]
        addr = "[::1]:8801"
        tls = { cert = "/tmp/tls.crt", key = "/tmp/tls.key" }
        [registration]
        enabled = true
        open = true
        shared_secret = "reg_secret"
        [federation]
        enabled = true
        ca_file = "/tmp/ca.crt"
        allow_private_addresses = true
        [rate_limit]
        enabled = false
        [log]
        level = "debug"
        [public]
        base_url = "http://localhost:8800/"
        [http_client]
        ca_file = "/tmp/ca.crt"
        allow_private_addresses = true
        [guests]
        enabled = true
        [room_directory]
        public_without_auth = true
        public_over_federation = true
        [url_preview]
        enabled = true
        [password]
        cost = "minimal"
    "#;
    let config = Config::from_text(text, none()).unwrap();
    assert_eq!(config.base_url, "http://localhost:8800");
    assert_eq!(
        config.registration.shared_secret.as_deref(),
        Some("reg_secret")
    );
    assert!(config.guests && !config.rates.enabled);
}

#[test]
fn mistakes_are_named() {
    assert!(refused("sever_name = \"x\"").contains("sever_name"));
    assert!(refused("server_name = \"a b\"").contains("server_name"));
    assert!(refused("memory_budget = \"much\"").contains("memory_budget"));
    assert!(refused("memory_budget = \"1MiB\"").contains("32MiB"));
    assert!(refused("durability = \"maybe\"").contains("\"fsync\""));
    assert!(refused("[[listen]]\naddr = \"localhost\"").contains("listen.addr"));
    assert!(refused("[[listen]]\ntls = \"acme\"").contains("acme.email"));
    assert!(refused("[[listen]]\naddr = \"unix:/x\"\ntls = \"self-signed\"").contains("Unix"));
    assert!(refused("[rooms]\ndefault_version = \"99\"").contains("rooms.default_version"));
    let notices = |rest: &str| refused(&format!("[server_notices]\nlocalpart = {rest}"));
    assert!(notices("\"Up Per\"").contains("server_notices.localpart"));
    assert!(notices("\"a\"\navatar_url = \"http://x\"").contains("server_notices.avatar_url"));
    assert!(refused("[public]\nbase_url = \"x.org\"").contains("https://"));
    assert!(refused("[acme]\nemail = \"a@b.c\"").contains("localhost"));
    assert!(refused("[log]\nformat = \"xml\"").contains("log.format"));
    assert!(refused("listen = []").contains("at least one"));
}

#[test]
fn the_environment_overrides() {
    let config = with(&[
        ("SKERRY_SERVER_NAME", "10.0.0.1"),
        ("SKERRY_REGISTRATION__OPEN", "true"),
        ("SKERRY_REGISTRATION__SHARED_SECRET", "1234"),
        ("SKERRY_MEDIA__S3__BUCKET", "pictures"),
        ("SKERRY_LISTEN", "[{ addr = \"0.0.0.0:80\" }]"),
        ("SKERRY_CONFIG", "/etc/skerry.toml"),
        ("SKERRY_BIN", "/usr/bin/skerry"),
        ("HOME", "/root"),
    ])
    .unwrap();
    assert_eq!(&*config.server_name, "10.0.0.1");
    assert!(config.registration.open);
    assert_eq!(config.registration.shared_secret.as_deref(), Some("1234"));
    assert_eq!(config.listen[0].addr.to_string(), "0.0.0.0:80");
    assert_eq!(config.ignored, ["media.s3.bucket"]);
    assert!(
        with(&[("SKERRY_REGISTRATION__OPNE", "true")])
            .unwrap_err()
            .0
            .contains("OPNE")
    );
    assert!(with(&[("SKERRY_REGISTRATION__OPEN", "yes")]).is_err());
}

#[test]
fn registration_files_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bridge.yaml");
    let text = format!(
        "appservice_registrations = [{:?}]",
        path.display().to_string()
    );
    assert!(refused(&text).contains("cannot be read"));
    let registration = "{ id: irc, url: null, as_token: a, hs_token: b, sender_localpart: irc";
    std::fs::write(&path, format!("{registration} }}")).unwrap();
    assert!(refused(&text).contains("namespaces"));
    std::fs::write(&path, format!("{registration}, namespaces: {{}} }}")).unwrap();
    let config = Config::from_text(&text, none()).unwrap();
    assert_eq!(config.appservices[0].id, "irc");
}

#[test]
fn mail_and_policies_are_whole_or_refused() {
    let mail = "[email]\nhost = \"mail.example.org\"\nfrom = \"a@example.org\"\n";
    let config = Config::from_text(mail, none()).unwrap();
    assert_eq!(config.mail.unwrap().port, 587);
    assert!(Config::from_text("", none()).unwrap().mail.is_none());
    for (text, says) in [
        ("[email]\nhost = \"x\"", "email.from"),
        ("[registration]\nemail_required = true", "email.host"),
        (&format!("{mail}tls = \"maybe\""), "email.tls"),
        (&format!("{mail}user = \"a\""), "password_file"),
        (
            &format!("{mail}user = \"a\"\npassword_file = \"/nowhere/at/all\""),
            "/nowhere/at/all",
        ),
        (
            "[registration.policies.x]\nen = { name = \"x\" }",
            "version",
        ),
        ("[registration.policies.x]\nversion = \"1\"", "language"),
        (
            "[registration.policies.x]\nversion = \"1\"\nen = { name = \"x\", url = \"x\" }",
            "name and url",
        ),
    ] {
        let said = refused(text);
        assert!(said.contains(says), "{text}: {said}");
    }
    let policy = "[registration.policies.x]\nversion = \"1\"\n\
                  en = { name = \"X\", url = \"https://x\" }";
    let terms = Config::from_text(policy, none())
        .unwrap()
        .registration
        .terms;
    assert_eq!(terms.unwrap().version, "x 1");
}

#[test]
fn the_front_door() {
    let config = Config::from_text("", none()).unwrap();
    let limits = config.front.limits;
    assert_eq!((limits.per_address, limits.max_connections), (256, 4096));
    assert_eq!((limits.head_bytes, limits.body_rate), (32 << 10, 1024));
    assert_eq!(limits.requests, 200);
    assert_eq!(config.rates, RateLimits::default());
    assert!(!config.front.trusted.contains([127, 0, 0, 1].into()));
    let text = r#"
        [public]
        base_url = "https://matrix.example.org/x"
        hsts_subdomains = true
        [[listen]]
        addr = "fd:https"
        tls = "self-signed"
        proxy_protocol = true
        [[listen]]
        addr = "[::]:80"
        redirect = true
        [proxy]
        trusted = ["loopback", "10.0.0.0/8", "cloudflare"]
        client_address = "forwarded"
        [limits]
        headers = "3s"
        [rate_limit]
        enabled = false
        login = { per_second = 0.1, at_once = 5 }
    "#;
    let config = Config::from_text(text, none()).unwrap();
    assert_eq!(config.listen[0].addr.to_string(), "fd:https");
    assert!(config.listen[0].proxy_protocol);
    let redirect = config.listen[1].redirect.as_deref();
    assert_eq!(redirect, Some("https://matrix.example.org"));
    assert!(config.front.trusted.contains([10, 1, 2, 3].into()));
    assert_eq!(config.front.limits.headers.as_secs(), 3);
    assert_eq!(config.front.limits.requests, 0);
    assert_eq!(config.rates.login.at_once, 5.0);
    assert!(config.front.hsts.subdomains && config.ignored.is_empty());
    for (text, says) in [
        ("[proxy]\ntrusted = [\"here\"]", "proxy.trusted"),
        ("[proxy]\nclient_address = \"x\"", "\"forwarded\""),
        ("[[listen]]\nproxy_protocol = true", "proxy.trusted"),
        ("[[listen]]\nredirect = true", "public.base_url"),
        ("[public]\nhsts_preload = true", "hsts_subdomains"),
        ("[limits]\nheaders = \"0\"", "limits.headers"),
        ("[limits]\nheader_size = \"1KiB\"", "limits.header_size"),
        ("[limits]\nconnections = 0", "limits.connections"),
        (
            "[rate_limit]\nsend = { per_second = 0.0, at_once = 5 }",
            "rate_limit.send",
        ),
        (
            "[rate_limit]\nsend = { per_second = 1.0, at_once = 0 }",
            "at_once",
        ),
    ] {
        let said = refused(text);
        assert!(said.contains(says), "{text}: {said}");
    }
}

#[test]
fn an_address_turns_automatic_certificates_on() {
    let text = |more: &str| {
        format!("server_name = \"example.org\"\n{more}\n[acme]\nemail = \"me@example.org\"\n")
    };
    let config = Config::from_text(&text(""), none()).unwrap();
    let places: Vec<String> = config.listen.iter().map(|l| l.addr.to_string()).collect();
    assert_eq!(places, ["127.0.0.1:8008", "[::]:443", "[::]:80"]);
    assert_eq!(config.listen[1].tls, Some(skerry_proxy::Tls::Acme));
    assert_eq!(
        config.listen[2].redirect.as_deref(),
        Some("https://example.org")
    );
    let acme = config.acme.unwrap().settings;
    assert_eq!(acme.names, ["example.org"]);
    assert!(acme.directory.contains("acme-v02.api.letsencrypt.org"));

    let own = "[[listen]]\naddr = \"fd:https\"\ntls = \"acme\"\n[[listen]]\naddr = \"fd:http\"\n\
        redirect = true\n[public]\nbase_url = \"https://Matrix.example.org:8443\"\n\
        [web]\nhost = \"chat.example.org\"";
    let domains = "domains = [\"other.example\", \"example.org\"]";
    let config = Config::from_text(&(text(own) + domains), none()).unwrap();
    assert_eq!(config.listen.len(), 2);
    let names = config.acme.unwrap().settings.names;
    let wanted = [
        "matrix.example.org",
        "example.org",
        "chat.example.org",
        "other.example",
    ];
    assert_eq!(names, wanted);

    let refused = |more: &str| Config::from_text(&(text("") + more), none()).unwrap_err().0;
    assert!(refused("directory = \"http://ca.example\"").contains("acme.directory"));
    assert!(refused("challenge = \"dns-01\"").contains("acme.dns_hook"));
    assert!(refused("challenge = \"mail\"").contains("acme.challenge"));
    assert!(refused("domains = [\"*.example.org\"]").contains("acme.domains"));
    assert!(refused("eab = { key_id = \"x\" }").contains("acme.eab"));
}

#[test]
fn one_listener_can_have_several_certificates() {
    let text = "[[listen]]\naddr = \"127.0.0.1:8448\"\ntls = [{ cert = \"a\", key = \"b\" }, \
        { cert = \"c\", key = \"d\" }]";
    let config = Config::from_text(text, none()).unwrap();
    let Some(skerry_proxy::Tls::Files(files)) = &config.listen[0].tls else {
        panic!("{:?}", config.listen);
    };
    assert_eq!(files.len(), 2);
    assert!(refused("[[listen]]\ntls = []").contains("empty"));
}
