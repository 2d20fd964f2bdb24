//! Reports: how they are made, and how the operator sees them.

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Person, TestServer};

fn escape(text: &str) -> String {
    text.replace('!', "%21")
        .replace('@', "%40")
        .replace('$', "%24")
        .replace(':', "%3A")
}

async fn report(server: &TestServer, who: &Person, path: &str, body: Value) -> (u16, Value) {
    let path = format!("/_matrix/client/v3/{path}/report");
    server
        .req(Method::POST, &path, Some(&who.token), Some(body))
        .await
}

async fn report_event(
    server: &TestServer,
    who: &Person,
    (room, event): (&str, &str),
    body: Value,
) -> (u16, Value) {
    let (room, event) = (escape(room), escape(event));
    let path = format!("/_matrix/client/v3/rooms/{room}/report/{event}");
    server
        .req(Method::POST, &path, Some(&who.token), Some(body))
        .await
}

async fn queue(server: &TestServer, path: &str) -> Value {
    let (status, page) = server.admin(Method::GET, path, None).await;
    assert_eq!(status, 200, "{page}");
    page
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_are_kept_until_they_are_closed() {
    let server = TestServer::start();
    let admin = server.person("admin").await;
    let alice = server.person("alice").await;
    let bob = server.person("bob").await;
    let body = json!({ "preset": "public_chat", "name": "Square", "room_alias_name": "square" });
    let room = server.room(&bob, body).await;
    server.join(&alice, &room).await;
    let event = server.say(&bob, &room, "rude").await;
    let body = json!({ "reason": "It is rude", "score": -200 });
    let done = report_event(&server, &alice, (&room, &event), body).await;
    assert_eq!(done, (200, json!({})));
    let path = format!("rooms/{}", escape(&room));
    assert_eq!(
        report(&server, &admin, &path, json!({ "reason": "" }))
            .await
            .0,
        200
    );
    let path = format!("users/{}", escape(&bob.user_id));
    assert_eq!(
        report(&server, &alice, &path, json!({ "reason": "spam" }))
            .await
            .0,
        200
    );

    let server = server.restart().await;
    let page = queue(&server, "/_synapse/admin/v1/event_reports").await;
    assert_eq!(page["total"], 1);
    let first = &page["event_reports"][0];
    let id = first["id"].as_u64().unwrap();
    let expected = json!({
        "id": id, "received_ts": first["received_ts"], "room_id": room, "name": "Square",
        "canonical_alias": "#square:test.example", "event_id": event, "user_id": alice.user_id,
        "sender": bob.user_id, "reason": "It is rude", "score": -100,
    });
    assert_eq!(*first, expected);
    let one = queue(&server, &format!("/_synapse/admin/v1/event_reports/{id}")).await;
    assert_eq!(one["event_json"]["content"]["body"], "rude");
    let page = queue(&server, "/_synapse/admin/v1/user_reports").await;
    assert_eq!(
        page["user_reports"][0]["target_user_id"],
        json!(bob.user_id)
    );
    let all = queue(&server, "/_skerry/admin/v1/reports?dir=f").await;
    let kinds: Vec<&Value> = all["reports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["kind"])
        .collect();
    assert_eq!(kinds, ["event", "room", "user"]);
    for (query, total) in [
        ("?user_id=%40alice%3Atest.example", 2),
        ("?user_id=%40nobody%3Atest.example", 0),
        ("?about_user_id=%40bob%3Atest.example", 2),
        ("?limit=1", 3),
        ("?from=3", 3),
    ] {
        let page = queue(&server, &format!("/_skerry/admin/v1/reports{query}")).await;
        assert_eq!(page["total"], total, "{query}");
    }
    let page = queue(&server, "/_skerry/admin/v1/reports?limit=2").await;
    assert_eq!(page["next_token"], 2);

    // The same for an administrator's token, and for nobody else's.
    let path = format!("/_synapse/admin/v1/event_reports/{id}");
    let (status, error) = server.req(Method::GET, &path, Some(&bob.token), None).await;
    assert_eq!((status, &error["errcode"]), (403, &json!("M_FORBIDDEN")));
    assert_eq!(server.req(Method::GET, &path, None, None).await.0, 401);
    assert_eq!(
        server
            .req(Method::DELETE, &path, Some(&admin.token), None)
            .await
            .0,
        200
    );
    assert_eq!(
        server
            .req(Method::DELETE, &path, Some(&admin.token), None)
            .await
            .0,
        404
    );
    assert_eq!(
        queue(&server, "/_skerry/admin/v1/reports").await["total"],
        2
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_does_not_tell_what_there_is() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let bob = server.person("bob").await;
    let room = server.room(&bob, json!({ "preset": "private_chat" })).await;
    let other = server.room(&alice, json!({})).await;
    let event = server.say(&bob, &room, "hidden").await;
    for path in [
        format!("rooms/{}", escape(&room)),
        "rooms/%21nowhere%3Atest.example".to_owned(),
        format!("users/{}", escape(&bob.user_id)),
        "users/%40nobody%3Atest.example".to_owned(),
        "users/%40nobody%3Aelsewhere.example".to_owned(),
    ] {
        let done = report(&server, &alice, &path, json!({ "reason": "why" })).await;
        assert_eq!(done, (200, json!({})), "{path}");
    }
    let hidden = report_event(&server, &alice, (&room, &event), json!({})).await;
    assert_eq!(
        (hidden.0, &hidden.1["errcode"]),
        (404, &json!("M_NOT_FOUND"))
    );
    for place in [
        (room.as_str(), "$nothing"),
        (other.as_str(), event.as_str()),
        (other.as_str(), "$nothing"),
        ("!nowhere:test.example", event.as_str()),
    ] {
        assert_eq!(
            report_event(&server, &alice, place, json!({})).await,
            hidden,
            "{place:?}"
        );
    }
    let long = json!({ "reason": "x".repeat(9_000) });
    let path = format!("users/{}", escape(&bob.user_id));
    assert_eq!(report(&server, &alice, &path, long).await.0, 413);
    assert_eq!(
        report(&server, &alice, "users/nobody", json!({})).await.0,
        400
    );
    assert_eq!(
        queue(&server, "/_skerry/admin/v1/reports").await["total"],
        2
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_fills_the_queue_alone() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let bob = server.person("bob").await;
    let path = format!("users/{}", escape(&bob.user_id));
    report(&server, &bob, &path, json!({ "reason": "mine" })).await;
    for n in 0..202 {
        let reason = format!("{n}");
        assert_eq!(
            report(&server, &alice, &path, json!({ "reason": reason }))
                .await
                .0,
            200
        );
    }
    let page = queue(&server, "/_skerry/admin/v1/reports?dir=f&limit=1000").await;
    let reports = page["reports"].as_array().unwrap();
    assert_eq!(reports.len(), 201);
    assert_eq!(
        (&reports[0]["reason"], &reports[1]["reason"]),
        (&json!("mine"), &json!("2"))
    );
}
