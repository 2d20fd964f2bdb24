//! The endpoints of previews.

use std::sync::Arc;

use skerry_http::{Answer, ApiError, Call, Route, route};

use super::{PreviewError, Previews};
use crate::routes::refuse;

/// The endpoints; served where previews are on.
pub const ROUTES: &[Route<Previews>] = &[
    route!(GET "/_matrix/client/v1/media/preview_url", Token, Heavy, preview),
    route!(GET "/_matrix/media/v3/preview_url", Token, Heavy, preview),
];

/// `GET /_matrix/client/v1/media/preview_url`. `ts`, the time of which a preview is preferred, is
/// read and makes no difference: there is only the newest.
async fn preview(previews: Arc<Previews>, call: Call) -> Result<Answer, ApiError> {
    let link = call.query("url");
    let link = link.ok_or_else(|| ApiError::missing_param("url is needed"))?;
    call.query_as::<i64>("ts")?;
    let json = previews.preview(&link).await.map_err(refused)?;
    Ok(Answer::json_bytes(json))
}

fn refused(error: PreviewError) -> ApiError {
    match error {
        PreviewError::Url => ApiError::invalid_param("This is no link to a page"),
        PreviewError::Denied => ApiError::forbidden("Links to this host are not previewed"),
        // No fault of ours: the cause was logged where it was met.
        PreviewError::Failed(_) => ApiError::bad_gateway("The link could not be fetched"),
        PreviewError::Media(error) => refuse(error),
    }
}
