//! Every endpoint of the specification is served, or there is a reason why not. The page
//! `docs/endpoints.md` is made of the same lists; `SKERRY_WRITE_DOCS=1` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use skerry_http::{Auth, Route};

const SPEC: &str = include_str!("spec.txt");

/// What is not served, by the beginning of its path (after the method, where one is given).
const NOT_YET: &[(&str, &str)] = &[
    ("/_matrix/client/v1/auth_metadata", "comes with OAuth 2.0"),
    ("/_matrix/client/v3/login/sso", "comes with single sign-on"),
];

type Endpoint = (String, String);

/// The same whatever the parameters are called.
fn plain(path: &str) -> String {
    let segments = path
        .split('/')
        .map(|s| if s.starts_with('{') { "{}" } else { s });
    segments.collect::<Vec<_>>().join("/")
}

fn spec() -> Vec<Endpoint> {
    SPEC.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .map(|(method, path)| (method.to_owned(), path.to_owned()))
        .collect()
}

/// What is served: endpoint and whether it takes a token.
fn served() -> BTreeMap<Endpoint, Auth> {
    fn add<C>(all: &mut BTreeMap<Endpoint, Auth>, routes: &[Route<C>]) {
        for route in routes {
            all.insert(
                (route.path.to_owned(), route.verb.as_str().to_owned()),
                route.auth,
            );
        }
    }
    let mut all = BTreeMap::new();
    add(&mut all, &skerry_client::routes());
    add(&mut all, &skerry_federation::routes());
    add(&mut all, skerry_media::ROUTES);
    add(&mut all, skerry_media::PREVIEW_ROUTES);
    add(&mut all, skerry_media::FEDERATION_ROUTES);
    add(&mut all, skerry_admin::TOKEN_ROUTES);
    add(&mut all, skerry_app::ROUTES);
    all
}

fn reason(method: &str, path: &str) -> Option<&'static str> {
    let whole = format!("{method} {path}");
    let fits = |begin: &&str| path.starts_with(*begin) || whole.starts_with(*begin);
    NOT_YET
        .iter()
        .find(|(begin, _)| fits(begin))
        .map(|(_, reason)| *reason)
}

#[test]
fn every_endpoint_is_served_or_has_a_reason() {
    let served: BTreeSet<Endpoint> = served()
        .into_keys()
        .map(|(path, method)| (method, plain(&path)))
        .collect();
    let mut faults = Vec::new();
    for (method, path) in spec() {
        let is_served = served.contains(&(method.clone(), plain(&path)));
        match (is_served, reason(&method, &path)) {
            (false, None) => faults.push(format!("{method} {path}: not served, and no reason")),
            (true, Some(reason)) => faults.push(format!("{method} {path}: served, but {reason}")),
            _ => {}
        }
    }
    assert!(faults.is_empty(), "\n  {}\n", faults.join("\n  "));
}

fn page() -> String {
    let mut text = String::from(
        "# Endpoints\n\nMade from the lists of routes by a test; `SKERRY_WRITE_DOCS=1 cargo test \
         -p skerry-testkit spec` writes it anew.\n\n## Served\n\n",
    );
    for ((path, method), auth) in served() {
        let token = match auth {
            Auth::None => "",
            Auth::Token => " (token)",
            Auth::TokenOptional => " (token if there is one)",
            Auth::Bridge => " (for application services with their token)",
            Auth::Server => " (signed by a server)",
        };
        let _ = writeln!(text, "- `{method} {path}`{token}");
    }
    text.push_str("\n## In the specification, not served\n\n");
    for (method, path) in spec() {
        if let Some(reason) = reason(&method, &path) {
            let _ = writeln!(text, "- `{method} {path}`: {reason}");
        }
    }
    text
}

#[test]
fn the_page_of_endpoints_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/endpoints.md");
    if std::env::var_os("SKERRY_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/endpoints.md is out of date: SKERRY_WRITE_DOCS=1"
    );
}
