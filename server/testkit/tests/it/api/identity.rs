//! Identity servers: telling of addresses, and invites by address.

use http::Method;
use serde_json::{Value, json};
use skerry_core::canonical::{Mode, Object};
use skerry_core::keys::SigningKey;
use skerry_testkit::{Gateway, Person, TestServer};

use super::threepid::{ADDRESSES, owner, post};

/// An identity server: answers in the order in which it is asked.
pub(crate) struct IdentityServer {
    gateway: Gateway,
    name: String,
    key: SigningKey,
    _dir: tempfile::TempDir,
    pub(crate) config: String,
}

impl IdentityServer {
    pub(crate) async fn start() -> IdentityServer {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        let gateway = Gateway::start_tls(&ca).await;
        let name = gateway.url("").replace("https://", "");
        let config = format!(
            "[http_client]\nca_file = {:?}\nallow_private_addresses = true\n",
            ca.display().to_string()
        );
        IdentityServer {
            gateway,
            name,
            key: SigningKey::from_seed(&[5; 32], "0").unwrap(),
            _dir: dir,
            config,
        }
    }

    fn public_key(&self) -> String {
        skerry_core::hash::base64(&self.key.public_key())
    }

    /// What it signs about who owns an address.
    pub(crate) fn signed(&self, mxid: &str, token: &str) -> Value {
        self.signs(json!({ "mxid": mxid, "token": token }))
    }

    fn signs(&self, object: Value) -> Value {
        let mut object = Object::from_json(&object, Mode::Strict).unwrap();
        self.key.sign_object(&self.name, &mut object);
        object.to_json()
    }

    fn answer(&self, body: Value) {
        self.gateway.answer(200, body);
    }

    /// The next look-up finds this.
    pub(crate) fn knows(&self, address: &str, found: Option<&str>) {
        use sha2::Digest as _;
        self.answer(json!({ "algorithms": ["none", "sha256"], "lookup_pepper": "pepper" }));
        let hash = sha2::Sha256::digest(format!("{address} email pepper"));
        let hash = skerry_core::hash::base64_url_safe(&hash);
        let mappings = match found {
            Some(user) => json!({ hash: user }),
            None => json!({}),
        };
        self.answer(json!({ "mappings": mappings }));
    }

    /// The next invite is kept under this token.
    pub(crate) fn keeps(&self, token: &str) {
        let url = self.gateway.url("/_matrix/identity/v2/pubkey/isvalid");
        let key = json!({ "public_key": self.public_key(), "key_validity_url": url });
        self.answer(json!({ "token": token, "display_name": "b...", "public_keys": [key] }));
    }

    pub(crate) fn invite(&self, address: &str) -> Value {
        json!({ "id_server": self.name, "id_access_token": "swordfish", "medium": "email",
            "address": address })
    }

    /// The paths it was asked for, without the query.
    fn asked(&self) -> Vec<String> {
        let told = self.gateway.told();
        let path = |path: &str| path.split('?').next().unwrap().to_owned();
        told.iter()
            .map(|told| path(&told.path).replace("/_matrix/identity/v2/", ""))
            .collect()
    }
}

async fn member(server: &TestServer, who: &Person, room: &str, whom: &Person) -> Value {
    let path = format!(
        "/_matrix/client/v3/rooms/{room}/state/m.room.member/{}",
        whom.user_id
    );
    server
        .req(Method::GET, &path, Some(&who.token), None)
        .await
        .1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_servers_are_told_of_addresses_and_told_to_forget_them() {
    let identity = IdentityServer::start().await;
    let server = TestServer::start_with(&identity.config);
    let alice = server.person("alice").await;
    let token = Some(alice.token.as_str());
    let bound = json!({ "medium": "email", "address": "alice@example.org",
        "mxid": alice.user_id, "ts": 1 });
    let bind = json!({ "id_server": identity.name, "id_access_token": "swordfish",
        "sid": "s", "client_secret": "c" });
    let path = |what: &str| format!("{ADDRESSES}/{what}");
    identity.answer(bound.clone());
    assert_eq!(
        post(&server, &path("bind"), token, bind.clone()).await.0,
        200
    );
    let told = identity.gateway.told().pop().unwrap();
    assert_eq!(told.headers["authorization"], "Bearer swordfish");
    assert_eq!(told.json()["mxid"], alice.user_id);
    let known = json!({ "medium": "email", "address": "alice@example.org" });
    let (status, _, ended) = post(&server, &path("unbind"), token, known.clone()).await;
    assert_eq!(
        (status, &ended["id_server_unbind_result"]),
        (200, &json!("success"))
    );
    let told = identity.gateway.told().pop().unwrap();
    let signed = told.headers["authorization"].to_str().unwrap();
    assert!(
        signed.starts_with("X-Matrix origin=\"test.example\",destination="),
        "{signed}"
    );
    assert_eq!(told.json()["threepid"], known);
    // Nobody knows of it any more.
    let (_, _, ended) = post(&server, &path("unbind"), token, known).await;
    assert_eq!(ended["id_server_unbind_result"], "no-support");
    assert_eq!(identity.asked(), ["3pid/bind", "3pid/unbind"]);

    // A closed account is forgotten too.
    identity.answer(bound);
    assert_eq!(
        post(&server, &path("bind"), token, bind.clone()).await.0,
        200
    );
    let close = json!({ "auth": owner("correct horse") });
    let closed = post(
        &server,
        "/_matrix/client/v3/account/deactivate",
        token,
        close,
    )
    .await;
    assert_eq!(closed.2, json!({ "id_server_unbind_result": "success" }));
    assert_eq!(identity.asked().len(), 4);

    let bob = server.person("bob").await;
    let token = Some(bob.token.as_str());
    identity.gateway.answer(
        400,
        json!({ "errcode": "M_SESSION_NOT_VALIDATED", "error": "x" }),
    );
    let refused = post(&server, &path("bind"), token, bind).await;
    assert_eq!(
        (refused.0, refused.1.as_str()),
        (401, "M_THREEPID_AUTH_FAILED")
    );
    for (name, status) in [("not a server", 400), ("localhost:1", 502)] {
        let bind = json!({ "id_server": name, "id_access_token": "t", "sid": "s",
            "client_secret": "c" });
        assert_eq!(
            post(&server, &path("bind"), token, bind).await.0,
            status,
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_invited_by_address() {
    let identity = IdentityServer::start().await;
    let server = TestServer::start_with(&identity.config);
    let alice = server.person("alice").await;
    let bob = server.person("bob").await;
    let room = server.room(&alice, json!({ "name": "Den" })).await;
    let invite = format!("/_matrix/client/v3/rooms/{room}/invite");

    // Nobody is asked about an address for who may not invite.
    let body = identity.invite("bob@example.org");
    assert_eq!(
        post(&server, &invite, Some(&bob.token), body.clone())
            .await
            .0,
        403
    );
    assert!(identity.asked().is_empty());
    identity.knows("bob@example.org", Some(&bob.user_id));
    let invited = post(&server, &invite, Some(&alice.token), body).await;
    assert_eq!(invited.0, 200, "{}", invited.2);
    assert_eq!(
        member(&server, &alice, &room, &bob).await["membership"],
        "invite"
    );
    assert_eq!(identity.asked(), ["hash_details", "lookup"]);

    let carol = server.person("carol").await;
    identity.knows("bob@example.org", Some(&bob.user_id));
    identity.knows("carol@example.org", None);
    identity.keeps("7");
    let invites = json!([
        identity.invite("bob@example.org"),
        identity.invite("carol@example.org")
    ]);
    let room = server
        .room(&alice, json!({ "invite_3pid": invites, "name": "Den" }))
        .await;
    assert_eq!(
        member(&server, &alice, &room, &bob).await["membership"],
        "invite"
    );
    let told = identity.gateway.told().pop().unwrap().json();
    assert_eq!(
        (&told["room_name"], &told["sender_display_name"]),
        (&json!("Den"), &json!("alice"))
    );
    let waiting = format!("/_matrix/client/v3/rooms/{room}/state/m.room.third_party_invite/7");
    let waiting = server
        .ok(Method::GET, &waiting, Some(&alice.token), None)
        .await;
    assert_eq!(waiting["display_name"], "b...");
    assert_eq!(waiting["public_key"], identity.public_key());

    // Carol turns out to own the address: the identity server tells us.
    let bind = |signed: Value| {
        json!({ "address": "carol@example.org", "medium": "email", "mxid": carol.user_id,
            "invites": [{ "address": "carol@example.org", "medium": "email",
                "mxid": carol.user_id, "room_id": room, "sender": alice.user_id,
                "signed": signed }] })
    };
    let on_bind = "/_matrix/federation/v1/3pid/onbind";
    let other = SigningKey::from_seed(&[6; 32], "0").unwrap();
    let mut forged = json!({ "mxid": carol.user_id, "token": "7" });
    let mut object = Object::from_json(&forged, Mode::Strict).unwrap();
    other.sign_object(&identity.name, &mut object);
    forged = object.to_json();
    let good = identity.signed(&carol.user_id, "7");
    assert_eq!(post(&server, on_bind, None, bind(forged)).await.0, 403);
    identity.answer(json!({ "valid": false }));
    assert_eq!(
        post(&server, on_bind, None, bind(good.clone())).await.0,
        403
    );
    assert!(member(&server, &alice, &room, &carol).await["membership"].is_null());
    identity.answer(json!({ "valid": true }));
    let (status, _) = server
        .req(Method::PUT, on_bind, None, Some(bind(good)))
        .await;
    assert_eq!(status, 200);
    let now = member(&server, &alice, &room, &carol).await;
    assert_eq!(
        (
            &now["membership"],
            &now["third_party_invite"]["display_name"]
        ),
        (&json!("invite"), &json!("b..."))
    );
    server.join(&carol, &room).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invite_by_address_is_brought_along_when_joining() {
    let identity = IdentityServer::start().await;
    let server = TestServer::start_with(&identity.config);
    let alice = server.person("alice").await;
    let other = server.person("other").await;
    let bob = server.person("bob").await;
    let room = server
        .room(&alice, json!({ "invite": [other.user_id] }))
        .await;
    server.join(&other, &room).await;
    let invite = format!("/_matrix/client/v3/rooms/{room}/invite");
    identity.knows("bob@example.org", None);
    identity.keeps("8");
    let body = identity.invite("bob@example.org");
    assert_eq!(
        post(&server, &invite, Some(&alice.token), body).await.0,
        200
    );
    // Who invited may have left since.
    let leave = format!("/_matrix/client/v3/rooms/{room}/leave");
    server
        .ok(Method::POST, &leave, Some(&alice.token), Some(json!({})))
        .await;
    let signed =
        identity.signs(json!({ "mxid": bob.user_id, "token": "8", "sender": alice.user_id }));
    let join = format!("/_matrix/client/v3/rooms/{room}/join");
    let body = json!({ "third_party_signed": signed });
    let stolen = post(&server, &join, Some(&other.token), body.clone()).await;
    assert_eq!((stolen.0, stolen.1.as_str()), (403, "M_FORBIDDEN"));
    let mut wrong = body.clone();
    wrong["third_party_signed"]["sender"] = json!(other.user_id);
    assert_eq!(post(&server, &join, Some(&bob.token), wrong).await.0, 403);
    assert_eq!(
        post(&server, &join, Some(&bob.token), json!({})).await.0,
        403
    );
    identity.answer(json!({ "valid": true }));
    let joined = post(&server, &join, Some(&bob.token), body).await;
    assert_eq!(joined.0, 200, "{}", joined.2);
    let now = member(&server, &other, &room, &bob).await;
    assert_eq!(now["membership"], "join");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invite_by_address_does_not_bring_back_who_was_removed() {
    let identity = IdentityServer::start().await;
    let server = TestServer::start_with(&identity.config);
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let room = server.room(&alice, json!({})).await;
    let join = format!("/_matrix/client/v3/rooms/{room}/join");
    let brings = async |token: &str| {
        let signed =
            identity.signs(json!({ "mxid": bob.user_id, "token": token, "sender": alice.user_id }));
        identity.answer(json!({ "valid": true }));
        let body = json!({ "third_party_signed": signed });
        post(&server, &join, Some(&bob.token), body).await
    };
    let invites = async |token: &str| {
        identity.knows("bob@example.org", None);
        identity.keeps(token);
        let invite = format!("/_matrix/client/v3/rooms/{room}/invite");
        let body = identity.invite("bob@example.org");
        let invited = post(&server, &invite, Some(&alice.token), body).await;
        assert_eq!(invited.0, 200, "{}", invited.2);
    };
    invites("1").await;
    assert_eq!(brings("1").await.0, 200);
    // Who went by themselves may come back.
    let leave = format!("/_matrix/client/v3/rooms/{room}/leave");
    assert_eq!(
        post(&server, &leave, Some(&bob.token), json!({})).await.0,
        200
    );
    assert_eq!(brings("1").await.0, 200);
    let kick = format!("/_matrix/client/v3/rooms/{room}/kick");
    let body = json!({ "user_id": bob.user_id });
    assert_eq!(post(&server, &kick, Some(&alice.token), body).await.0, 200);
    let again = brings("1").await;
    assert_eq!((again.0, again.1.as_str()), (403, "M_FORBIDDEN"));
    invites("2").await;
    assert_eq!(brings("2").await.0, 200, "a later invite counts");
}
