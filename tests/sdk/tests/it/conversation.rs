//! The Rust SDK of Element X against the real server: registration, an encrypted room, two people and three
//! devices, cross-signing, key backup and its restore on a fresh device, with a restart in between.

use std::time::Duration;

use matrix_sdk::{
    Client, Room, RoomMemberships,
    config::SyncSettings,
    deserialized_responses::TimelineEventKind,
    encryption::{BackupDownloadStrategy, EncryptionSettings, recovery::RecoveryState},
    room::MessagesOptions,
    ruma::{
        OwnedRoomId, OwnedUserId,
        api::client::{
            account::register::v3::Request as Register,
            room::create_room::v3::{Request as CreateRoom, RoomPreset},
            uiaa::{AuthData, Dummy},
        },
        events::{
            AnySyncMessageLikeEvent, AnySyncTimelineEvent, InitialStateEvent, SyncMessageLikeEvent,
            room::{
                encryption::RoomEncryptionEventContent,
                message::{MessageType, RoomMessageEventContent},
            },
        },
    },
};

use crate::skerry::{Skerry, until};

async fn client(url: &str) -> Client {
    Client::builder()
        .homeserver_url(url)
        .with_encryption_settings(EncryptionSettings {
            auto_enable_cross_signing: true,
            auto_enable_backups: true,
            backup_download_strategy: BackupDownloadStrategy::AfterDecryptionFailure,
        })
        .build()
        .await
        .unwrap()
}

/// Keeps a client in sync until the test ends; errors (a restarting server) are tried again.
fn keep_in_sync(client: &Client) {
    let client = client.clone();
    tokio::spawn(async move {
        loop {
            let settings = SyncSettings::default().timeout(Duration::from_secs(5));
            let _ = client.sync_once(settings).await;
        }
    });
}

async fn register(url: &str, name: &str) -> Client {
    let client = client(url).await;
    let mut request = Register::new();
    request.username = Some(name.to_owned());
    request.password = Some(format!("{name}'s password"));
    request.initial_device_display_name = Some(format!("{name}'s first device"));
    request.auth = Some(AuthData::Dummy(Dummy::new()));
    client.matrix_auth().register(request).await.unwrap();
    client
        .encryption()
        .wait_for_e2ee_initialization_tasks()
        .await;
    keep_in_sync(&client);
    client
}

async fn log_in(url: &str, name: &str) -> Client {
    let client = client(url).await;
    client
        .matrix_auth()
        .login_username(name, &format!("{name}'s password"))
        .initial_device_display_name(&format!("{name}'s second device"))
        .await
        .unwrap();
    client
        .encryption()
        .wait_for_e2ee_initialization_tasks()
        .await;
    keep_in_sync(&client);
    client
}

async fn encrypted_room(client: &Client, invite: OwnedUserId) -> Room {
    let mut request = CreateRoom::new();
    request.preset = Some(RoomPreset::PrivateChat);
    request.invite = vec![invite];
    request.initial_state = vec![
        InitialStateEvent::with_empty_state_key(
            RoomEncryptionEventContent::with_recommended_defaults(),
        )
        .to_raw_any(),
    ];
    client.create_room(request).await.unwrap()
}

async fn room_of(client: &Client, id: &OwnedRoomId) -> Room {
    until("the room to appear", || async { client.get_room(id) }).await
}

/// Waits until `text` can be read by this client in the room's recent history, decrypted.
async fn hears(client: &Client, room: &OwnedRoomId, text: &str) {
    let room = room_of(client, room).await;
    until(
        &format!("{:?} to read {text:?}", client.user_id()),
        || async {
            let mut options = MessagesOptions::backward();
            options.limit = 50_u32.into();
            let page = room.messages(options).await.ok()?;
            page.chunk
                .iter()
                .any(|event| says(event, text))
                .then_some(())
        },
    )
    .await;
}

fn says(event: &matrix_sdk::deserialized_responses::TimelineEvent, text: &str) -> bool {
    if !matches!(event.kind, TimelineEventKind::Decrypted(_)) {
        return false;
    }
    let Ok(AnySyncTimelineEvent::MessageLike(AnySyncMessageLikeEvent::RoomMessage(
        SyncMessageLikeEvent::Original(message),
    ))) = event.raw().deserialize()
    else {
        return false;
    };
    matches!(&message.content.msgtype, MessageType::Text(found) if found.body == text)
}

async fn say(client: &Client, room: &OwnedRoomId, text: &str) {
    let content = RoomMessageEventContent::text_plain(text);
    room_of(client, room).await.send(content).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_conversation_survives_a_restart_and_reaches_a_new_device() {
    let mut server = Skerry::start();
    let ada = register(&server.url, "ada").await;
    let grace = register(&server.url, "grace").await;
    let grace_id = grace.user_id().unwrap().to_owned();

    let id = encrypted_room(&ada, grace_id).await.room_id().to_owned();
    room_of(&grace, &id).await.join().await.unwrap();
    until("ada to see grace join", || async {
        let members = room_of(&ada, &id)
            .await
            .members(RoomMemberships::JOIN)
            .await
            .ok()?;
        (members.len() == 2).then_some(())
    })
    .await;

    say(&ada, &id, "the lamp is lit").await;
    hears(&grace, &id, "the lamp is lit").await;
    say(&grace, &id, "I see it from here").await;
    hears(&ada, &id, "I see it from here").await;

    let status = ada.encryption().cross_signing_status().await.unwrap();
    assert!(
        status.is_complete(),
        "cross-signing keys were made and uploaded"
    );
    let recovery_key = ada
        .encryption()
        .recovery()
        .enable()
        .wait_for_backups_to_upload()
        .await
        .unwrap();

    server.restart();
    say(&grace, &id, "still burning?").await;
    hears(&ada, &id, "still burning?").await;
    ada.encryption()
        .backups()
        .wait_for_steady_state()
        .await
        .unwrap();

    let second = log_in(&server.url, "ada").await;
    second
        .encryption()
        .recovery()
        .recover(&recovery_key)
        .await
        .unwrap();
    until("the second device to be recovered", || async {
        (second.encryption().recovery().state() == RecoveryState::Enabled).then_some(())
    })
    .await;
    until("the new device to be signed by its owner", || async {
        let own = second.encryption().get_own_device().await.ok()??;
        own.is_cross_signed_by_owner().then_some(())
    })
    .await;
    room_of(&second, &id).await;
    second
        .encryption()
        .backups()
        .download_room_keys_for_room(&id)
        .await
        .unwrap();
    hears(&second, &id, "the lamp is lit").await;
    hears(&second, &id, "still burning?").await;

    say(&grace, &id, "welcome, second lamp").await;
    hears(&second, &id, "welcome, second lamp").await;
    hears(&ada, &id, "welcome, second lamp").await;
    server.end();
}
