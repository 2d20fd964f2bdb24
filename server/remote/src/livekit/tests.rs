#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Mutex;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::*;

struct Noon;

impl Clock for Noon {
    fn now_ms(&self) -> u64 {
        1_000_000_000
    }
}

/// Answers each request with the next status, and notes it.
#[derive(Default)]
struct Fake {
    answers: Mutex<Vec<u16>>,
    asked: Mutex<Vec<String>>,
}

impl Transport for Fake {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
        self.asked.lock().unwrap().push(format!("{request:?}"));
        let status = self.answers.lock().unwrap().remove(0);
        let response = Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers: ::http::HeaderMap::new(),
            body: Bytes::from_static(b"{}"),
        };
        Box::pin(async { Ok(response) })
    }
}

fn livekit(answers: &[u16]) -> (LiveKit, Arc<Fake>) {
    let settings = LiveKitSettings {
        url: "wss://sfu.example".into(),
        key: "key".into(),
        secret: "secret".into(),
    };
    let fake = Arc::new(Fake::default());
    *fake.answers.lock().unwrap() = answers.to_vec();
    let transport: Arc<dyn Transport> = fake.clone();
    (LiveKit::new(settings, transport, Arc::new(Noon)), fake)
}

/// The vectors of the proposal.
#[test]
fn names_are_made_as_everybody_makes_them() {
    assert_eq!(
        pseudonym(&["!roomid:example.com", "slot1234"]),
        "O8437W3+jmzMVjoIP3tNwbm+XxHQk2iKpOA7aqw3qSc"
    );
    assert_eq!(
        pseudonym(&["@alice:example.com", "memberABC"]),
        "M3VnsLXrkbxIDINXO64u8PZzFyD9ZYFiQULR2dshWYs"
    );
}

#[test]
fn a_token_says_who_may_do_what_where() {
    let (livekit, _) = livekit(&[]);
    let token = livekit.token(Grant {
        room: "r",
        identity: "i",
        metadata: false,
    });
    let claims = jwt::verify(&token, b"secret").unwrap();
    assert_eq!(claims["sub"], "i");
    assert_eq!(claims["iss"], "key");
    assert_eq!(claims["nbf"], 1_000_000);
    assert_eq!(claims["exp"], 1_003_600);
    assert_eq!(claims["video"]["room"], "r");
    assert_eq!(claims["video"]["roomJoin"], true);
    assert_eq!(claims["video"]["roomCreate"], false);
    assert_eq!(jwt::verify(&token, b"other"), None);
    assert_eq!(jwt::verify(&token[1..], b"secret"), None);
    assert_eq!(jwt::verify("", b"secret"), None);
}

#[tokio::test]
async fn rooms_are_made_and_participants_looked_for() {
    let (livekit, fake) = livekit(&[200, 500, 200, 404, 503]);
    livekit.create_room("r").await.unwrap();
    assert!(matches!(
        livekit.create_room("r").await,
        Err(LiveKitError::Refused { .. })
    ));
    assert!(livekit.is_connected("r", "i").await.unwrap());
    assert!(!livekit.is_connected("r", "i").await.unwrap());
    assert!(livekit.is_connected("r", "i").await.is_err());
    let asked = fake.asked.lock().unwrap();
    let url = "https://sfu.example/twirp/livekit.RoomService/CreateRoom";
    assert!(asked[0].contains(url), "{}", asked[0]);
}

#[test]
fn only_livekit_itself_is_believed() {
    let (livekit, _) = livekit(&[]);
    let body =
        br#"{"event":"participant_left","room":{"name":"r"},"participant":{"identity":"i"}}"#;
    let sign = |exp: u64, body: &[u8], secret: &[u8]| {
        let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(body));
        jwt::sign(&json!({ "iss": "key", "exp": exp, "sha256": hash }), secret)
    };
    let good = sign(2_000_000, body, b"secret");
    let hook = livekit.hook(&good, body).unwrap();
    assert_eq!(
        (&*hook.event, &*hook.room, &*hook.identity),
        ("participant_left", "r", "i")
    );
    assert_eq!(livekit.hook(&good, b"{}"), None);
    assert_eq!(livekit.hook(&sign(1, body, b"secret"), body), None);
    assert_eq!(livekit.hook(&sign(2_000_000, body, b"guess"), body), None);
}
