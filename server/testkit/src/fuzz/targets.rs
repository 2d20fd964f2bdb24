//! The targets.

use skerry_core::canonical::{MAX_BODY_DEPTH, Mode, Object, canonical_object};
use skerry_core::event::MAX_EVENT_BYTES;
use skerry_core::fixtures::signing_key;
use skerry_core::redact::redact;
use skerry_core::verify::verify_event;
use skerry_core::{Clock, RoomVersion, StoredEvent};
use skerry_federation::Transaction;
use skerry_remote::federation::{Proof, untrusted};

use crate::TestClock;

/// Any text as an event of every room version: what is taken has a size, survives storing, and
/// means the same when it comes again.
pub fn pdu(data: &[u8]) {
    for version in RoomVersion::all() {
        let Ok(event) = StoredEvent::from_pdu(data, version) else {
            continue;
        };
        assert!(
            event.json().len() <= MAX_EVENT_BYTES,
            "{}",
            event.json().len()
        );
        let again = StoredEvent::from_pdu(event.json().as_bytes(), version).unwrap();
        assert_eq!(again, event);
        assert_eq!(StoredEvent::decode(&event.encode()).unwrap(), event);
        let object = event.object().unwrap();
        let redacted = StoredEvent::from_object(redact(&object, version), version);
        // What is left after a redaction names the same event.
        let redacted = redacted.unwrap();
        if !version.references_have_hashes() {
            assert_eq!(redacted.event_id(), event.event_id());
        }
        let mut out = Vec::new();
        event.write_federation(&mut out);
        event.write_stripped(&mut out);
        let keys = |server: &str, _: &str| Some(signing_key(server).public_key());
        // Good or not: it is known without a fault.
        let _ = verify_event(&object, version, &keys);
        let (_, _) = (event.auth_events(), event.prev_events());
    }
}

/// Any text as the body of a transaction: its canonical text is found without regard to depth, is
/// the same again, and agrees with what the parser of events says.
pub fn transaction(data: &[u8]) {
    let canonical = canonical_object(data, Mode::Lenient, 1 << 20);
    let parsed = Object::parse_within(data, Mode::Lenient, 1 << 20);
    if let Ok(parsed) = &parsed {
        assert_eq!(canonical.as_deref(), Ok(&*parsed.to_string()));
    }
    let Ok(text) = canonical else {
        return;
    };
    assert!(text.len() <= data.len() * 6, "{MAX_BODY_DEPTH}");
    let again = canonical_object(text.as_bytes(), Mode::Lenient, 8 << 20);
    assert_eq!(again.as_deref(), Ok(&*text));
    let Ok(sent) = serde_json::from_slice::<Transaction>(data) else {
        return;
    };
    for pdu in sent.pdus {
        for version in [RoomVersion::V1, RoomVersion::V6, RoomVersion::V12] {
            let _ = StoredEvent::from_pdu(pdu.get().as_bytes(), version);
        }
    }
}

/// Any text as an answer of `send_join`: it is read the same however it is cut up on the way. Of
/// several things wrong with it, which one is named depends on what has come.
pub fn send_join(data: &[u8]) {
    let whole = untrusted::join_answer(data, data.len().max(1));
    for size in [1, 7, 1_000] {
        let cut = untrusted::join_answer(data, size);
        assert_eq!(cut.ok(), whole.clone().ok(), "in pieces of {size}");
    }
    for json in whole.unwrap_or_default() {
        assert!(json.len() <= data.len());
        let _ = StoredEvent::from_pdu(&json, RoomVersion::V12);
    }
}

/// Any text as an `Authorization` header.
pub fn x_matrix(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(proof) = Proof::parse(text) {
        assert!(!proof.origin.is_empty() && !proof.key.is_empty());
        assert!(proof.origin.len() <= 255, "{proof:?}");
        assert!(skerry_core::names::is_server_name(&proof.origin));
    }
}

/// Any text as `/.well-known/matrix/server`.
pub fn well_known(data: &[u8]) {
    if let Some(server) = untrusted::well_known(data, TestClock::new().now_ms()) {
        assert!(server.len() <= 255 + 6, "{server}");
    }
}

/// Any text as an answer about keys, from the server itself or a notary.
pub fn key_answer(data: &[u8]) {
    let now_ms = TestClock::new().now_ms();
    for keys in untrusted::key_answers(data, "example.org", now_ms) {
        // Nothing is believed that was not signed with a key that is named.
        assert!(!keys.is_empty() && keys.len() <= 128);
        assert!(keys.iter().all(|id| id.starts_with("ed25519:")));
    }
}
