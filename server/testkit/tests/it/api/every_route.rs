//! What every endpoint has to do with bad requests, without knowing what it does with good ones.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use skerry_http::{Auth, BodyKind, Route, Verb};
use skerry_testkit::TestServer;

/// A route without its handler.
struct Known {
    verb: Verb,
    path: &'static str,
    auth: Auth,
    body: BodyKind,
    max_body: usize,
}

fn known<C>(routes: &[Route<C>]) -> Vec<Known> {
    routes
        .iter()
        .map(|route| Known {
            verb: route.verb,
            path: route.path,
            auth: route.auth,
            body: route.body,
            max_body: route.max_body.unwrap_or(1024 * 1024),
        })
        .collect()
}

fn all() -> Vec<Known> {
    let mut all = known(&skerry_client::routes());
    all.extend(known(skerry_media::ROUTES));
    all.extend(known(skerry_admin::TOKEN_ROUTES));
    assert!(all.len() > 50, "only {} routes", all.len());
    all
}

impl Known {
    fn method(&self) -> Method {
        self.verb.as_str().parse().unwrap()
    }

    fn takes_json(&self) -> bool {
        self.body == BodyKind::Json && matches!(self.verb, Verb::POST | Verb::PUT)
    }

    /// The path with something likely for each parameter.
    fn filled(&self) -> String {
        let segments = self.path.split('/').map(|segment| {
            let Some(name) = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) else {
                return segment.to_owned();
            };
            match name {
                "roomId" | "roomIdOrAlias" | "room_id" => "%21nowhere%3Atest.example",
                "roomAlias" => "%23nothing%3Atest.example",
                "userId" | "user_id" => "%40someone%3Atest.example",
                "eventId" => "%24none",
                "receiptType" => "m.read",
                "eventType" | "type" => "org.example.type",
                "serverName" => "test.example",
                "kind" => "override",
                "scope" => "global",
                _ => "x",
            }
            .to_owned()
        });
        segments.collect::<Vec<_>>().join("/")
    }
}

async fn ask(
    server: &TestServer,
    route: &Known,
    token: Option<&str>,
    body: impl Into<Bytes>,
) -> (u16, Value) {
    let answer = server
        .raw(route.method(), &route.filled(), token, body.into())
        .await;
    let value = serde_json::from_slice(answer.body()).unwrap_or(Value::Null);
    (answer.status().as_u16(), value)
}

fn fault(route: &Known, what: &str, got: &(u16, Value)) -> String {
    format!(
        "{} {}: {what}: {} {}",
        route.verb.as_str(),
        route.path,
        got.0,
        got.1
    )
}

fn say(faults: &[String]) {
    assert!(faults.is_empty(), "\n  {}\n", faults.join("\n  "));
}

fn is(got: &(u16, Value), status: u16, errcode: &str) -> bool {
    got.0 == status && got.1["errcode"] == errcode && got.1["error"].is_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_token_is_told_so() {
    let server = TestServer::start();
    let mut faults = Vec::new();
    for route in all().iter().filter(|route| route.auth == Auth::Token) {
        let got = ask(&server, route, None, "").await;
        if !is(&got, 401, "M_MISSING_TOKEN") {
            faults.push(fault(route, "without a token", &got));
        }
        let got = ask(&server, route, Some("nonsense"), "").await;
        if !is(&got, 401, "M_UNKNOWN_TOKEN") {
            faults.push(fault(route, "with a wrong token", &got));
        }
    }
    say(&faults);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_server_is_told_so() {
    let server = TestServer::start();
    let person = server.person("alice").await;
    let routes = known(&skerry_federation::routes());
    let mut faults = Vec::new();
    for route in routes.iter().filter(|route| route.auth == Auth::Server) {
        for token in [None, Some(&*person.token)] {
            let got = ask(&server, route, token, "").await;
            if !is(&got, 401, "M_UNAUTHORIZED") {
                faults.push(fault(route, "without a signature", &got));
            }
        }
    }
    say(&faults);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_cannot_be() {
    let server = TestServer::start();
    let person = server.person("alice").await;
    let token = Some(person.token.as_str());
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(20_000), "]".repeat(20_000));
    let mut faults = Vec::new();
    for route in all().iter().filter(|route| route.takes_json()) {
        for (body, errcode) in [
            ("not json".to_owned(), "M_NOT_JSON"),
            ("{\"a\":".to_owned(), "M_NOT_JSON"),
            ("{} trailing".to_owned(), "M_NOT_JSON"),
            ("[]".to_owned(), "M_BAD_JSON"),
            ("\"text\"".to_owned(), "M_BAD_JSON"),
            ("null".to_owned(), "M_BAD_JSON"),
            (deep.clone(), "M_BAD_JSON"),
        ] {
            let what = body.get(..12).unwrap_or(&body).to_owned();
            let got = ask(&server, route, token, body).await;
            if !is(&got, 400, errcode) {
                faults.push(fault(route, &what, &got));
            }
        }
        let got = ask(&server, route, token, vec![b' '; route.max_body + 1]).await;
        if !is(&got, 413, "M_TOO_LARGE") {
            faults.push(fault(route, "too large", &got));
        }
    }
    say(&faults);
}

/// Every member of any body in the client-server API, with a value of a type that none of them
/// has: where a member has to be a string, a number, a list or a map, `true` is wrong; where it
/// has to be a boolean, a list is.
fn wrong_types() -> Value {
    let mut body = json!({});
    for name in [
        "type",
        "identifier",
        "password",
        "device_id",
        "initial_device_display_name",
        "username",
        "auth",
        "new_password",
        "refresh_token",
        "user_id",
        "reason",
        "room_version",
        "name",
        "topic",
        "preset",
        "visibility",
        "invite",
        "initial_state",
        "creation_content",
        "power_level_content_override",
        "room_alias_name",
        "invite_3pid",
        "new_version",
        "displayname",
        "avatar_url",
        "device_keys",
        "one_time_keys",
        "fallback_keys",
        "messages",
        "master_key",
        "self_signing_key",
        "user_signing_key",
        "timeout",
        "devices",
        "display_name",
        "presence",
        "automatic",
        "status_msg",
        "pushers",
        "actions",
        "conditions",
        "pattern",
        "order",
        "room_id",
        "filter",
        "room",
        "account_data",
        "algorithm",
        "auth_data",
        "rooms",
        "sessions",
        "thread_id",
        "m.fully_read",
        "m.read",
        "server",
        "limit",
        "since",
        "search_term",
        "kind",
        "app_id",
        "pushkey",
        "lang",
        "data",
        "mac",
        "nonce",
        "event_format",
        "event_fields",
        "first_message_index",
        "session_data",
        "third_party_signed",
        "next_batch",
        "transaction_id",
        "delay",
        "action",
        "sequence_token",
        "url",
        "openid_token",
        "device_data",
        "lists",
        "room_subscriptions",
        "extensions",
    ] {
        body[name] = true.into();
    }
    for name in [
        "inhibit_login",
        "logout_devices",
        "erase",
        "typing",
        "enabled",
        "is_direct",
        "append",
        "admin",
        "is_verified",
        "forwarded_count",
    ] {
        body[name] = json!(["wrong"]);
    }
    body
}

/// Routes with a JSON body that is free (any member of any type), or that looks at none.
const FREE_BODIES: &[&str] = &[
    "/send/{eventType}",
    "/send/{eventType}/{txnId}",
    "/state/{eventType}",
    "/state/{eventType}/",
    "/state/{eventType}/{stateKey}",
    "/account_data/{type}",
    "/forget",
    "/receipt/{receiptType}/{eventId}",
    "/profile/{userId}/{keyName}",
    "/keys/signatures/upload",
    "/delayed_events/{delayId}/restart",
    "/delayed_events/{delayId}/send",
    "/delayed_events/{delayId}/cancel",
    "/livekit/jwt/sfu_webhook",
    "/destinations/{destination}/reset_connection",
    "/openid/request_token",
    "/msisdn/requestToken",
    "/media/v1/create",
    "/media/quarantine/{serverName}/{mediaId}",
    "/media/unquarantine/{serverName}/{mediaId}",
    "/user/{userId}/media/quarantine",
    "/room/{roomId}/media/quarantine",
    "/media/verify",
    "/media/protect/{mediaId}",
    "/media/unprotect/{mediaId}",
    "/media/blocked_hashes/{hash}",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_the_wrong_type() {
    let server = TestServer::start();
    let person = server.person("alice").await;
    let room = server.room(&person, json!({})).await;
    let event = server.say(&person, &room, "hello").await;
    let room = room.replace('!', "%21").replace(':', "%3A");
    let event = event.replace('$', "%24");
    let wrong = wrong_types().to_string();
    let mut faults = Vec::new();
    for route in all().iter().filter(|route| route.takes_json()) {
        // Whatever the body, these end the session that the others need.
        if route.path.contains("/logout") {
            continue;
        }
        let free = FREE_BODIES.iter().any(|end| route.path.ends_with(end));
        // Whoever is somebody else's keeper is told so first.
        let path = route
            .filled()
            .replace("%40someone", "%40alice")
            .replace("%21nowhere%3Atest.example", &room)
            .replace("%24none", &event);
        let method = route.method();
        let answer = server
            .raw(
                method,
                &path,
                Some(&person.token),
                Bytes::from(wrong.clone()),
            )
            .await;
        let value = serde_json::from_slice(answer.body()).unwrap_or(Value::Null);
        let got = (answer.status().as_u16(), value);
        let good = is(&got, 400, "M_BAD_JSON")
            || is(&got, 400, "M_INVALID_PARAM")
            || is(&got, 400, "M_MISSING_PARAM")
            || (free && got.0 < 500);
        if !good {
            faults.push(fault(route, "wrong types", &got));
        }
    }
    say(&faults);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_makes_it_fall() {
    let server = TestServer::start();
    let person = server.person("alice").await;
    let queries = [
        "",
        "?limit=-1",
        "?limit=99999999999999999999",
        "?from=%FF&to=x&since=x&dir=q",
    ];
    let mut faults = Vec::new();
    for route in all() {
        // These end the session that the others need.
        if route.path.contains("/logout") || route.path.ends_with("/deactivate") {
            continue;
        }
        for query in queries {
            let path = format!("{}{query}", route.filled());
            // A sync without a limit in time would wait.
            let path = if path.contains("/sync?") || path.contains("/events?") {
                format!("{path}&timeout=0")
            } else if path.ends_with("/events") {
                format!("{path}?timeout=0")
            } else {
                path
            };
            let method = route.method();
            let answer = server
                .raw(method, &path, Some(&person.token), Bytes::from("{}"))
                .await;
            if answer.status().as_u16() >= 500 && answer.status().as_u16() != 504 {
                let value = serde_json::from_slice(answer.body()).unwrap_or(Value::Null);
                faults.push(fault(&route, query, &(answer.status().as_u16(), value)));
            }
        }
    }
    say(&faults);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_methods_and_paths() {
    let server = TestServer::start();
    let all = all();
    let mut faults = Vec::new();
    for path in all.iter().map(|route| route.path).collect::<BTreeSet<_>>() {
        let known: Vec<&Known> = all.iter().filter(|route| route.path == path).collect();
        for verb in [Verb::GET, Verb::POST, Verb::PUT, Verb::DELETE] {
            if known.iter().any(|route| route.verb == verb) {
                continue;
            }
            let like = Known {
                verb,
                path,
                auth: Auth::None,
                body: BodyKind::Json,
                max_body: 0,
            };
            let got = ask(&server, &like, None, "").await;
            if !is(&got, 405, "M_UNRECOGNIZED") {
                faults.push(fault(&like, "unknown method", &got));
            }
        }
        let options = server
            .raw(Method::OPTIONS, &known[0].filled(), None, Bytes::new())
            .await;
        if options
            .headers()
            .get("access-control-allow-origin")
            .is_none()
        {
            faults.push(format!("OPTIONS {path}: no CORS headers"));
        }
    }
    for path in [
        "/_",
        "/_matrix",
        "/_matrix/client/v3/nothing",
        "/_matrix/client/v9/sync",
    ] {
        let (status, answer) = server.req(Method::GET, path, None, None).await;
        if !is(&(status, answer.clone()), 404, "M_UNRECOGNIZED") {
            faults.push(format!("{path}: {status} {answer}"));
        }
    }
    say(&faults);
}

/// What is served on the admin socket alone does not exist for others; the rest is for
/// administrators.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_api_is_for_administrators() {
    let server = TestServer::start();
    server.person("admin").await;
    let bob = server.person("bob").await;
    let open: BTreeSet<_> = skerry_admin::TOKEN_ROUTES
        .iter()
        .map(|route| (route.verb, route.path))
        .collect();
    for route in known(skerry_admin::ROUTES) {
        let name = format!("{} {}", route.verb.as_str(), route.path);
        let body = if route.takes_json() { "{}" } else { "" };
        let (nobody, _) = ask(&server, &route, None, body).await;
        let (status, answer) = ask(&server, &route, Some(&bob.token), body).await;
        if open.contains(&(route.verb, route.path)) {
            assert_eq!(nobody, 401, "{name}");
            let refused = (status, &answer["errcode"]);
            assert_eq!(refused, (403, &json!("M_FORBIDDEN")), "{name}");
        } else {
            assert!([404, 405].contains(&nobody), "{name}: {nobody}");
            assert!([404, 405].contains(&status), "{name}: {answer}");
        }
    }
    for route in known(skerry_admin::TOKEN_ROUTES) {
        assert_eq!(route.auth, Auth::Token, "{}", route.path);
    }
}
