//! What a JSON body has to be before any handler sees it, and which error says that it is not.

use ruma_common::api::error::{DeserializationError, FromHttpRequestError};
use serde::de::IgnoredAny;

use crate::ApiError;

/// How deep a request's JSON may nest. Real events nest less than ten levels; the bound keeps
/// every later walk over the value shallow.
pub const MAX_JSON_DEPTH: usize = 100;

/// Checks that a body is empty or one JSON object, not nested deeper than [`MAX_JSON_DEPTH`].
pub(crate) fn check(body: &[u8]) -> Result<(), ApiError> {
    if body.is_empty() {
        return Ok(());
    }
    let text = std::str::from_utf8(body)
        .map_err(|_| ApiError::not_json("The body is not JSON: it is not UTF-8"))?;
    if deeper_than(body, MAX_JSON_DEPTH) {
        return Err(ApiError::bad_json("The body is nested too deeply"));
    }
    serde_json::from_str::<IgnoredAny>(text)
        .map_err(|e| ApiError::not_json(format!("The body is not JSON: {e}")))?;
    if text.trim_start().starts_with('{') {
        Ok(())
    } else {
        Err(ApiError::bad_json("The body has to be a JSON object"))
    }
}

/// Whether brackets outside strings open more than `limit` levels.
fn deeper_than(body: &[u8], limit: usize) -> bool {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for &byte in body {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// The client's error for a body that serde could not turn into the wanted shape.
pub(crate) fn shape_error(error: &serde_json::Error) -> ApiError {
    let text = error.to_string();
    if !error.is_data() {
        ApiError::not_json(format!("The body is not JSON: {text}"))
    } else if text.starts_with("missing field") {
        ApiError::missing_param(text)
    } else {
        ApiError::bad_json(text)
    }
}

/// The client's error for a request that ruma could not read.
pub(crate) fn ruma_error(error: &FromHttpRequestError) -> ApiError {
    match error {
        FromHttpRequestError::Deserialization(DeserializationError::Json(e)) => shape_error(e),
        FromHttpRequestError::Deserialization(DeserializationError::Query(e)) => {
            let text = e.to_string();
            if text.starts_with("missing field") {
                ApiError::missing_param(text)
            } else {
                ApiError::invalid_param(format!("In the query string: {text}"))
            }
        }
        FromHttpRequestError::Deserialization(DeserializationError::Ident(e)) => {
            ApiError::invalid_param(format!("Not a valid identifier: {e}"))
        }
        FromHttpRequestError::Deserialization(DeserializationError::Utf8(_)) => {
            ApiError::invalid_param("The request is not UTF-8")
        }
        FromHttpRequestError::MethodMismatch { .. } => ApiError::wrong_method("Unknown method"),
        other => ApiError::invalid_param(format!("The request cannot be read: {other}")),
    }
}
