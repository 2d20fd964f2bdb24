//! Hashes and signatures of events, many at a time and on all cores.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures_util::future::join_all;
use skerry_core::canonical::{Mode, Object, Value};
use skerry_core::event::FormatError;
use skerry_core::hash::signable_text;
use skerry_core::keys::verify;
use skerry_core::redact::redact;
use skerry_core::verify::{Verified, VerifyError, required_servers, verify_event};
use skerry_core::{RoomVersion, StoredEvent};
use skerry_store::{StoreError, blocking};

use super::Checker;
use crate::federation::keyring::{Keys, Moment, Wanted};

/// Fewer events than this are not worth a thread of their own.
const FEW: usize = 16;
/// How many signatures of one server on one event are looked at.
const SIGNATURES_MAX: usize = 16;

/// What is wrong with an event, seen by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PduFault {
    /// It is not an event of its room's version, or too large.
    #[error("{0}")]
    Format(#[from] FormatError),
    /// It is not from whom it says.
    #[error("{0}")]
    Signature(#[from] VerifyError),
    /// Looking at it failed, by a fault of ours.
    #[error("it could not be checked")]
    Unchecked,
}

/// An event of which only its own text has been looked at.
enum Draft {
    Bad(PduFault),
    /// It has the shape of an event; and what its signatures need.
    Shaped(Object, Vec<Wanted>),
}

impl Checker {
    /// Checks events of a room of this version: shape and size, signatures, hashes. Keys that are
    /// not known are asked for, once for all events. An event whose content was changed on the
    /// way comes back redacted. The order is kept.
    ///
    /// # Errors
    /// The store's.
    pub async fn check_pdus(
        &self,
        version: RoomVersion,
        pdus: Vec<Object>,
    ) -> Result<Vec<Result<Arc<StoredEvent>, PduFault>>, StoreError> {
        let drafts = on_all_cores(pdus, move |pdu| drafted(pdu, version)).await?;
        self.check_drafts(version, drafts).await
    }

    /// The same from texts, which are parsed on all cores too.
    ///
    /// # Errors
    /// The store's.
    pub async fn check_texts(
        &self,
        version: RoomVersion,
        pdus: Vec<Vec<u8>>,
    ) -> Result<Vec<Result<Arc<StoredEvent>, PduFault>>, StoreError> {
        let drafts = on_all_cores(pdus, move |text| read(&text, version)).await?;
        self.check_drafts(version, drafts).await
    }

    /// What can be said of events without asking anybody: why each is not genuine; nothing of one
    /// that is, or that is signed with keys which are not known here. The order is kept.
    ///
    /// # Errors
    /// The store's.
    pub async fn doubts(
        &self,
        version: RoomVersion,
        pdus: Vec<Vec<u8>>,
    ) -> Result<Vec<Option<PduFault>>, StoreError> {
        let drafts = on_all_cores(pdus, move |text| read(&text, version)).await?;
        let keys = Arc::new(self.inner.keys.known(&needs_of(&drafts)).await?);
        let doubts = on_all_cores(drafts, move |draft| match draft {
            Some(Draft::Shaped(object, needs)) if needs.iter().all(|one| keys.meet(one)) => {
                verified(object, version, &keys).err()
            }
            Some(Draft::Bad(fault)) => Some(fault),
            _ => None,
        });
        Ok(doubts.await?.into_iter().map(Option::flatten).collect())
    }

    /// Whether an event carries a good signature of a server, which it need not have by the rules
    /// of its room: an invite's, of who is invited.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn is_signed_by(
        &self,
        event: &StoredEvent,
        server: &str,
    ) -> Result<bool, StoreError> {
        let Ok(object) = event.object() else {
            return Ok(false);
        };
        let of_server = object
            .object("signatures")
            .and_then(|all| all.object(server));
        let Some(of_server) = of_server else {
            return Ok(false);
        };
        let moment = moment_of(event.origin_server_ts(), event.version());
        let ids = of_server.iter().map(|(id, _)| id.to_owned());
        let wanted = Wanted {
            server: server.into(),
            key_ids: ids.take(SIGNATURES_MAX).collect(),
            moment,
        };
        let keys = self.inner.keys.find(vec![wanted]).await?;
        let text = signable_text(&object, event.version());
        Ok(of_server.iter().any(|(id, signature)| {
            let key = keys.get(server, id, moment);
            key.zip(signature.as_str())
                .is_some_and(|(key, signature)| verify(&key, signature, text.as_bytes()))
        }))
    }

    async fn check_drafts(
        &self,
        version: RoomVersion,
        drafts: Vec<Option<Draft>>,
    ) -> Result<Vec<Result<Arc<StoredEvent>, PduFault>>, StoreError> {
        let wanted = together(needs_of(&drafts));
        let keys = Arc::new(self.inner.keys.find(wanted).await?);
        let checked = on_all_cores(drafts, move |draft| match draft {
            Some(Draft::Shaped(object, _)) => verified(object, version, &keys),
            Some(Draft::Bad(fault)) => Err(fault),
            None => Err(PduFault::Unchecked),
        })
        .await?;
        let or_unchecked = |one: Option<_>| one.unwrap_or(Err(PduFault::Unchecked));
        Ok(checked.into_iter().map(or_unchecked).collect())
    }
}

/// What the signatures of all events need.
fn needs_of(drafts: &[Option<Draft>]) -> Vec<Wanted> {
    let shaped = drafts.iter().flatten().filter_map(|draft| match draft {
        Draft::Shaped(_, needs) => Some(needs),
        Draft::Bad(_) => None,
    });
    shaped.flatten().cloned().collect()
}

/// Parses an event and looks at it alone.
fn read(text: &[u8], version: RoomVersion) -> Draft {
    match Object::parse(text, version.json_mode()) {
        Ok(object) => drafted(object, version),
        Err(error) => Draft::Bad(FormatError::Json(error).into()),
    }
}

/// Looks at an event alone: what would refuse it whoever signed it.
fn drafted(mut pdu: Object, version: RoomVersion) -> Draft {
    pdu.remove("unsigned");
    // Numbers are allowed by the mode in which a text is parsed; this object may have been parsed
    // in another.
    if version.json_mode() == Mode::Strict && !is_strict(&pdu) {
        return Draft::Bad(FormatError::Malformed("content").into());
    }
    if let Err(error) = StoredEvent::from_object(pdu.clone(), version) {
        return Draft::Bad(error.into());
    }
    let servers = match required_servers(&pdu, version) {
        Ok(servers) => servers,
        Err(error) => return Draft::Bad(error.into()),
    };
    let at_ms = pdu
        .int("origin_server_ts")
        .and_then(|ts| ts.try_into().ok());
    let at_ms: u64 = at_ms.unwrap_or_default();
    let moment = moment_of(at_ms, version);
    let mut needs = Vec::new();
    for server in servers {
        let signatures = pdu.object("signatures").and_then(|all| all.object(&server));
        let ids = signatures.into_iter().flat_map(Object::iter);
        let ids = ids
            .map(|(id, _)| id)
            .filter(|id| id.starts_with("ed25519:"));
        let key_ids: BTreeSet<String> = ids.take(SIGNATURES_MAX).map(str::to_owned).collect();
        if key_ids.is_empty() {
            return Draft::Bad(VerifyError::Unsigned(server).into());
        }
        needs.push(Wanted {
            server: server.into(),
            key_ids,
            moment,
        });
    }
    Draft::Shaped(pdu, needs)
}

fn moment_of(at_ms: u64, version: RoomVersion) -> Moment {
    if version.enforces_key_validity() {
        Moment::Signed(at_ms)
    } else {
        Moment::Whenever(at_ms)
    }
}

/// Whether there are only such numbers as canonical JSON has now.
fn is_strict(object: &Object) -> bool {
    fn value_is(value: &Value) -> bool {
        match value {
            Value::Number(_) => false,
            Value::Int(n) => n.unsigned_abs() <= skerry_core::canonical::MAX_INT.unsigned_abs(),
            Value::Array(items) => items.iter().all(value_is),
            Value::Object(object) => is_strict(object),
            _ => true,
        }
    }
    object.iter().all(|(_, value)| value_is(value))
}

/// Checks signatures and hash; without the content where that is not what was signed.
fn verified(
    object: Object,
    version: RoomVersion,
    keys: &Keys,
) -> Result<Arc<StoredEvent>, PduFault> {
    let at_ms = object
        .int("origin_server_ts")
        .and_then(|ts| ts.try_into().ok());
    let moment = moment_of(at_ms.unwrap_or_default(), version);
    let key = |server: &str, id: &str| keys.get(server, id, moment);
    let object = match verify_event(&object, version, &key)? {
        Verified::All => object,
        Verified::SignaturesOnly => redact(&object, version),
    };
    Ok(Arc::new(StoredEvent::from_object(object, version)?))
}

/// One wish for each server, keys and moment.
fn together(wanted: Vec<Wanted>) -> Vec<Wanted> {
    let mut latest: BTreeMap<(Arc<str>, BTreeSet<String>), Moment> = BTreeMap::new();
    for one in wanted {
        let moment = latest
            .entry((one.server, one.key_ids))
            .or_insert(one.moment);
        // All are of one kind, since they are of one room version: a key that is good for the
        // latest is good for those before.
        *moment = one.moment.max(*moment);
    }
    let wanted = latest
        .into_iter()
        .map(|((server, key_ids), moment)| Wanted {
            server,
            key_ids,
            moment,
        });
    wanted.collect()
}

/// Does the same to many items, on as many threads as there are cores. What panics leaves
/// nothing in its place.
async fn on_all_cores<T, R, F>(items: Vec<T>, work: F) -> Result<Vec<Option<R>>, StoreError>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Fn(T) -> R + Send + Sync + 'static,
{
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = items.len().div_ceil(cores).max(FEW);
    let work = Arc::new(work);
    let mut items = items.into_iter().peekable();
    let mut shares = Vec::new();
    while items.peek().is_some() {
        let some: Vec<T> = items.by_ref().take(share).collect();
        let work = Arc::clone(&work);
        shares.push(blocking(move || {
            let one = |item| catch_unwind(AssertUnwindSafe(|| work(item))).ok();
            some.into_iter().map(one).collect::<Vec<Option<R>>>()
        }));
    }
    let mut done = Vec::new();
    for share in join_all(shares).await {
        done.extend(share?);
    }
    Ok(done)
}
