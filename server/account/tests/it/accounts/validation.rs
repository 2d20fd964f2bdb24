//! Validations of addresses that strangers begin.

use skerry_account::address::Purpose;
use skerry_account::validation::ValidationRequest;
use skerry_core::Pos;
use skerry_store::Scan;
use skerry_store::schema::address::{Validation, Validations};

use super::home::Home;

#[tokio::test]
async fn those_that_nobody_finishes_make_room_for_others() {
    let home = Home::with(|settings| settings.email = true);
    let mut w = home.store.write();
    for n in 0..10_000u64 {
        let row = Validation {
            purpose: Purpose::Register,
            email: format!("{n}@example.org"),
            secret: [0; 32],
            salt: [0; 16],
            attempt: 1,
            next_link: None,
            expires_ms: u64::MAX - n,
            // The oldest are finished, and stay.
            validated_ms: (n > 9_000).then_some(1),
            pos: Pos(1),
        };
        w.put::<Validations>(&format!("{n:05}"), &row);
    }
    let applied = home.store.commit(w).unwrap();
    home.store.wait_durable(&applied).unwrap();
    let ask = ValidationRequest {
        client_secret: "secret".to_owned(),
        email: "a@example.org".to_owned(),
        send_attempt: 1,
        next_link: None,
    };
    let asked = home.accounts.request_validation(Purpose::Register, ask);
    let sid = asked.await.unwrap();
    let snap = home.store.snapshot();
    assert_eq!(snap.scan::<Validations>(Scan::all()).count(), 10_000);
    assert!(snap.has::<Validations>(&sid).unwrap());
    assert!(!snap.has::<Validations>(&"09000".to_owned()).unwrap());
    assert!(snap.has::<Validations>(&"09999".to_owned()).unwrap());
}
