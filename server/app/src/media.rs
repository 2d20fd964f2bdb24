//! Media put together: where it lies, and who deletes it.

use std::path::Path;
use std::sync::Arc;

use skerry_account::Accounts;
use skerry_core::{Clock, DiceSource};
use skerry_media::prune::Pruner;
use skerry_media::{Blobs, S3, Swept};
use skerry_remote::http::Client;
use skerry_room::Rooms;
use skerry_store::Store;

use crate::StartError;
use crate::config::Config;
use crate::house::millis;
use crate::references::HouseReferences;

/// Opens the media. Inside a runtime; an object store is not asked anything yet.
pub(crate) fn open(
    config: &Config,
    client: &Client,
    store: &Arc<Store>,
    clock: &Arc<dyn Clock>,
    dice: &Arc<dyn DiceSource>,
) -> Result<Arc<Blobs>, StartError> {
    let settings = skerry_media::Settings {
        server_name: config.server_name.to_string(),
        max_upload: config.max_upload,
        user_quota: config.user_quota,
        free_disk_floor: config.free_disk_floor,
        info_uri: config.well_known.info_uri(&config.base_url),
        admin_contact: config.well_known.admin_contact(),
        worker: config.picture_worker.clone(),
        pictures: config.pictures,
        thumbnails_in_advance: config.thumbnails_in_advance,
        decoders: std::thread::available_parallelism().map_or(2, usize::from),
        unauthenticated: config.unauthenticated_media,
        trash_ms: millis(config.media_trash),
    };
    let dir: &Path = &config.data_dir.join("media");
    let mut blobs = Blobs::open(
        dir,
        Arc::clone(store),
        settings,
        Arc::clone(clock),
        Arc::clone(dice),
    )?;
    if let Some(settings) = &config.media_store {
        let s3 = S3::new(settings, &config.server_name, client.clone());
        blobs = blobs.far(s3.map_err(StartError::ObjectStore)?);
    }
    say(blobs.sweep()?);
    Ok(Arc::new(blobs))
}

/// Says what was found that does not fit together.
pub(crate) fn say(swept: Swept) {
    if swept.unfinished + swept.orphans > 0 {
        tracing::info!(
            unfinished = swept.unfinished,
            orphans = swept.orphans,
            "media files that nothing names were removed"
        );
    }
    if swept.lost > 0 {
        tracing::warn!(
            lost = swept.lost,
            "media files are not there; `media-prune --check` says which"
        );
    }
}

/// Who deletes media, and what tells it what is needed.
pub(crate) fn pruner(
    config: &Config,
    blobs: &Arc<Blobs>,
    accounts: &Accounts,
    rooms: &Rooms,
) -> Pruner {
    let notices = config.notices.iter();
    let pictures = notices.flat_map(|notices| [&notices.avatar_url, &notices.room_avatar_url]);
    let settings = pictures.flatten().map(ToString::to_string).collect();
    let references = HouseReferences::new(accounts.clone(), rooms.clone(), settings);
    Pruner::new(Arc::clone(blobs), Arc::new(references))
}
