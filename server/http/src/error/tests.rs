#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

/// The whole table, so that a change of it is read in a review.
#[test]
fn each_code_has_its_status() {
    let table: Vec<String> = ApiError::all_constructed()
        .iter()
        .map(|(name, error)| format!("{name} {} {}", error.status().as_u16(), error.errcode()))
        .collect();
    for line in [
        "forbidden 403 M_FORBIDDEN",
        "missing_token 401 M_MISSING_TOKEN",
        "unknown_token 401 M_UNKNOWN_TOKEN",
        "bad_json 400 M_BAD_JSON",
        "not_json 400 M_NOT_JSON",
        "not_found 404 M_NOT_FOUND",
        "unrecognized 404 M_UNRECOGNIZED",
        "wrong_method 405 M_UNRECOGNIZED",
        "too_large 413 M_TOO_LARGE",
        "user_in_use 400 M_USER_IN_USE",
        "conflict 409 M_UNKNOWN",
        "not_yet_uploaded 504 M_NOT_YET_UPLOADED",
        "no_space 507 M_UNKNOWN",
    ] {
        assert!(
            table.iter().any(|have| have == line),
            "{line} is not in {table:#?}"
        );
    }
    for (name, error) in ApiError::all_constructed() {
        assert!(
            error.status().is_client_error() || error.status().is_server_error(),
            "{name}"
        );
        assert_eq!(error.body(None)["errcode"], error.errcode(), "{name}");
    }
}

#[test]
fn the_cause_stays_here() {
    let error = ApiError::internal("disk 3 is on fire");
    let body = error.body(Some("00a1")).to_string();
    assert!(!body.contains("fire") && body.contains("00a1"), "{body}");
    assert_eq!(error.cause(), Some("disk 3 is on fire"));
}

#[test]
fn interactive_authentication_has_its_own_body() {
    let body = serde_json::json!({ "flows": [], "session": "x" });
    let error = ApiError::uia(body.clone());
    assert_eq!(error.status(), 401);
    assert_eq!(error.body(Some("1")), body);
}
