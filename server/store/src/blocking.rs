//! From async to sync: one closure per request, on a thread that may block.

use crate::StoreError;

/// Runs `work` on tokio's pool for blocking work. It runs to its end even if the caller is
/// dropped meanwhile.
///
/// # Errors
/// `Panicked` when `work` panics; what `work` returns is inside the `Ok`.
pub async fn blocking<T, F>(work: F) -> Result<T, StoreError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let span = tracing::Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
        Ok(value) => Ok(value),
        Err(error) if error.is_panic() => {
            tracing::error!("a blocking task panicked");
            Err(StoreError::Panicked)
        }
        // The runtime is shutting down.
        Err(_) => Err(StoreError::Closed),
    }
}
