//! Asking the policy servers of rooms: this server itself, where a room names it, or another one
//! by `/policy/v1/sign` (server-server API, "Policy Servers").

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use http::Method;
use serde::Deserialize;
use skerry_core::StoredEvent;
use skerry_core::policy::{KEY_ID, PolicyServer};
use skerry_room::{AskPolicy, PolicyAnswer, PolicyRefusal};

use super::desk::PolicyDesk;
use super::{Limits, PeerError, Peers};

/// Where policy servers are asked.
const SIGN: &str = "/_matrix/policy/v1/sign";
/// How long one event may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long several events of one change may take together.
const PATIENCE_ALL: Duration = Duration::from_secs(20);
/// How many events are asked for at once.
const AT_ONCE: usize = 8;
/// The largest answer, in bytes: one signature.
const ANSWER_MAX: usize = 16 << 10;

/// Asks policy servers.
pub(super) struct Approver {
    peers: Peers,
    desk: Option<Arc<PolicyDesk>>,
}

/// Signatures by server and key.
#[derive(Deserialize)]
struct Signed(HashMap<String, HashMap<String, String>>);

impl Approver {
    pub(super) fn new(peers: Peers, desk: Option<Arc<PolicyDesk>>) -> Approver {
        Approver { peers, desk }
    }

    async fn ask_for(&self, server: &PolicyServer, event: &StoredEvent) -> PolicyAnswer {
        if *server.via == **self.peers.own_name() {
            return match &self.desk {
                Some(desk) => desk.sign(event).await,
                None => Err(PolicyDesk::no_desk()),
            };
        }
        let silent = |cause: String| PolicyRefusal::Silent {
            server: server.via.clone(),
            cause,
        };
        let limits = Limits::new(PATIENCE, ANSWER_MAX);
        let text = Some(event.json().to_owned());
        let called = self
            .peers
            .call_text(&server.via, Method::POST, SIGN, text, limits);
        let answer = match called.await {
            Ok(answer) => answer,
            Err(PeerError::Refused {
                status,
                errcode: Some(errcode),
                error,
                ..
            }) => {
                return Err(PolicyRefusal::Said {
                    status,
                    errcode,
                    error,
                });
            }
            Err(error) => return Err(silent(error.to_string())),
        };
        let signed: Result<Signed, _> = serde_json::from_slice(&answer.body);
        let Signed(mut signed) = signed.map_err(|error| silent(error.to_string()))?;
        let mut of_server = signed.remove(&server.via).unwrap_or_default();
        let signature = of_server.remove(KEY_ID);
        signature.ok_or_else(|| silent("its answer holds no signature of its own".to_owned()))
    }
}

impl AskPolicy for Approver {
    fn ask<'a>(
        &'a self,
        events: Vec<(Arc<PolicyServer>, Arc<StoredEvent>)>,
    ) -> Pin<Box<dyn Future<Output = Vec<PolicyAnswer>> + Send + 'a>> {
        Box::pin(async move {
            let end = tokio::time::Instant::now() + PATIENCE_ALL;
            let asking = events.into_iter().map(|(server, event)| async move {
                let asked = tokio::time::timeout_at(end, self.ask_for(&server, &event)).await;
                asked.unwrap_or_else(|_| {
                    Err(PolicyRefusal::Silent {
                        server: server.via.clone(),
                        cause: "it took too long".to_owned(),
                    })
                })
            });
            stream::iter(asking).buffered(AT_ONCE).collect().await
        })
    }
}
