#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use serde_json::{Value, json};

use super::{Found, Registration, Settings, Site, is_config};

fn site(dir: &std::path::Path) -> Site {
    Site::new(Settings {
        server_name: "example.org".to_owned(),
        base_url: "https://matrix.example.org".to_owned(),
        registration: Registration::Token,
        shelf: dir.join("web"),
        host: None,
        dir: None,
        override_file: dir.join("config.override.json"),
        contacts: vec![(
            "the keeper".to_owned(),
            "mailto:keeper@example.org".to_owned(),
        )],
        policies: vec![(
            "House rules".to_owned(),
            "https://example.org/rules".to_owned(),
        )],
    })
}

fn config(site: &Site, path: &str) -> Value {
    match site.find(path, "example.org", "") {
        Found::Config(json) => serde_json::from_slice(&json).unwrap(),
        _ => panic!("{path} is the configuration"),
    }
}

#[test]
fn without_a_build_there_is_the_welcome_page_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path());
    for path in ["/", "/welcome.html"] {
        let Found::Ours(page) = site.find(path, "localhost:8008", "") else {
            panic!("{path}");
        };
        assert!(page.contains("@name:example.org"), "{page}");
        assert!(page.contains("skerry web install"), "{page}");
        assert!(page.contains("registration token"), "{page}");
        assert!(page.contains("<svg"), "{page}");
        assert!(page.contains("mailto:keeper@example.org"), "{page}");
        assert!(page.contains("https://example.org/rules"), "{page}");
        assert!(page.contains("a phone needs one"), "{page}");
        assert!(
            !page.contains("src=\"http"),
            "no third party is asked: {page}"
        );
    }
    for path in ["/config.json", "/index.html", "/bundles/app.js"] {
        assert!(matches!(site.find(path, "", ""), Found::Nothing), "{path}");
    }
}

#[test]
fn a_build_is_served_with_a_configuration_of_ours() {
    let dir = tempfile::tempdir().unwrap();
    let build = dir.path().join("build");
    fs::create_dir(&build).unwrap();
    fs::write(build.join("index.html"), "the client").unwrap();
    fs::write(build.join("welcome.html"), "the client's welcome").unwrap();
    fs::write(build.join("config.json"), "{\"stale\":true}").unwrap();
    let site = site(dir.path());
    site.shelf.install(&build, "client", None).unwrap();

    assert!(matches!(site.find("/", "", ""), Found::File(file) if !file.immutable));
    assert!(
        matches!(site.find("/welcome.html", "", ""), Found::Ours(page) if page.contains("Open the chat"))
    );
    assert!(matches!(
        site.find("/client-welcome.html", "", ""),
        Found::File(_)
    ));
    let plain = config(&site, "/config.json");
    assert_eq!(
        plain["default_server_config"]["m.homeserver"],
        json!({ "base_url": "https://matrix.example.org", "server_name": "example.org" })
    );
    assert_eq!(
        plain["embedded_pages"]["welcome_url"],
        "client-welcome.html"
    );
    assert_eq!(plain.get("stale"), None);
    assert_eq!(config(&site, "/config.chat.example.org.json"), plain);

    let over = dir.path().join("config.override.json");
    fs::write(
        &over,
        "{\"brand\":\"Reef\",\"disable_guests\":null,\"setting_defaults\":{\"x\":1}}",
    )
    .unwrap();
    let merged = config(&site, "/config.json");
    assert_eq!(merged["brand"], "Reef");
    assert_eq!(merged.get("disable_guests"), None);
    assert_eq!(merged["setting_defaults"]["x"], 1);
    assert_eq!(merged["setting_defaults"]["UIFeature.registration"], true);
    fs::write(&over, "{ broken").unwrap();
    assert_eq!(
        config(&site, "/config.json"),
        plain,
        "a broken override is not used"
    );
}

#[test]
fn only_configurations_are_configurations() {
    for path in ["/config.json", "/config.example.org.json"] {
        assert!(is_config(path), "{path}");
    }
    for path in [
        "/config.js",
        "/configs/a.json",
        "/config.a/b.json",
        "/x/config.json",
        "/configuration.json",
    ] {
        assert!(!is_config(path), "{path}");
    }
}

#[test]
fn a_client_with_a_name_of_its_own_is_found_there_alone() {
    let dir = tempfile::tempdir().unwrap();
    let build = dir.path().join("build");
    fs::create_dir(&build).unwrap();
    fs::write(build.join("index.html"), "the client").unwrap();
    let mut site = site(dir.path());
    site.settings.host = Some("chat.example.org".to_owned());
    site.shelf.install(&build, "client", None).unwrap();
    for host in ["chat.example.org", "Chat.Example.Org:8443"] {
        assert!(matches!(site.find("/", host, ""), Found::File(_)), "{host}");
        assert!(matches!(
            site.find("/config.json", host, ""),
            Found::Config(_)
        ));
    }
    let Found::Ours(page) = site.find("/", "matrix.example.org", "") else {
        panic!("the welcome page is there");
    };
    assert!(
        page.contains("href=\"https://chat.example.org/\""),
        "{page}"
    );
    for path in ["/index.html", "/config.json"] {
        assert!(matches!(
            site.find(path, "matrix.example.org", ""),
            Found::Nothing
        ));
    }
}
