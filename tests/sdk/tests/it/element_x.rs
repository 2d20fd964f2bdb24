//! What Element X does: its sync service (two sliding syncs, one for the rooms and one for encryption), its room
//! list, its timelines, notifications and spaces, as the SDK's own user-interface crate drives them.

use std::sync::Arc;

use matrix_sdk::{
    Client, Room, RoomState,
    config::RequestConfig,
    encryption::{BackupDownloadStrategy, EncryptionSettings},
    ruma::{
        OwnedEventId, OwnedRoomId, RoomId, UserId,
        api::client::{
            account::register::v3::Request as Register,
            receipt::create_receipt::v3::ReceiptType,
            room::create_room::v3::{CreationContent, Request as CreateRoom, RoomPreset},
            uiaa::{AuthData, Dummy},
        },
        events::{
            InitialStateEvent, StateEventType,
            room::{encryption::RoomEncryptionEventContent, message::RoomMessageEventContent},
        },
        room::RoomType,
        serde::Raw,
    },
    sliding_sync::VersionBuilder,
};
use matrix_sdk_ui::{
    notification_client::{NotificationClient, NotificationProcessSetup, NotificationStatus},
    spaces::SpaceService,
    sync_service::SyncService,
    timeline::{RoomExt as _, Timeline},
};

use crate::skerry::{Skerry, until};

/// A phone: a client and its sync service.
struct Phone {
    client: Client,
    sync: Arc<SyncService>,
}

impl Phone {
    async fn client(url: &str) -> Client {
        Client::builder()
            .homeserver_url(url)
            // looks into /versions whether the server speaks it, as the app does
            .sliding_sync_version_builder(VersionBuilder::DiscoverNative)
            .request_config(RequestConfig::new().retry_limit(5))
            .with_encryption_settings(EncryptionSettings {
                auto_enable_cross_signing: true,
                auto_enable_backups: true,
                backup_download_strategy: BackupDownloadStrategy::AfterDecryptionFailure,
            })
            .build()
            .await
            .unwrap()
    }

    async fn switch_on(client: Client) -> Self {
        client
            .encryption()
            .wait_for_e2ee_initialization_tasks()
            .await;
        let sync = SyncService::builder(client.clone())
            .with_offline_mode()
            .build()
            .await
            .unwrap();
        sync.start().await;
        Self {
            client,
            sync: Arc::new(sync),
        }
    }

    async fn register(url: &str, name: &str) -> Self {
        let client = Self::client(url).await;
        let mut request = Register::new();
        request.username = Some(name.to_owned());
        request.password = Some(format!("{name}'s password"));
        request.auth = Some(AuthData::Dummy(Dummy::new()));
        client.matrix_auth().register(request).await.unwrap();
        Self::switch_on(client).await
    }

    fn user(&self) -> &UserId {
        self.client.user_id().unwrap()
    }

    /// The room once it is in the state that is waited for.
    async fn room(&self, id: &RoomId, state: RoomState) -> Room {
        until(
            &format!("{} to be {state:?} in {id}", self.user()),
            || async {
                let room = self.client.get_room(id)?;
                (room.state() == state).then_some(room)
            },
        )
        .await
    }

    /// Opens a room as the app does: subscribes to it, and shows its timeline.
    async fn open(&self, id: &RoomId) -> Timeline {
        let room = self.room(id, RoomState::Joined).await;
        self.sync
            .room_list_service()
            .subscribe_to_rooms(&[id])
            .await;
        room.timeline().await.unwrap()
    }
}

/// What a timeline shows as text, oldest first, with the ids.
async fn shown(timeline: &Timeline) -> Vec<(Option<OwnedEventId>, String)> {
    let items = timeline.items().await;
    items
        .iter()
        .filter_map(|item| item.as_event())
        .filter_map(|event| {
            let text = event.content().as_message()?.body().to_owned();
            Some((event.event_id().map(ToOwned::to_owned), text))
        })
        .collect()
}

/// Waits for a text that has come from the server, and gives the event's id.
async fn reads(timeline: &Timeline, text: &str) -> OwnedEventId {
    until(&format!("a timeline to show {text:?}"), || async {
        let all = shown(timeline).await;
        all.into_iter()
            .find_map(|(id, body)| if body == text { id } else { None })
    })
    .await
}

async fn say(timeline: &Timeline, text: &str) {
    let content = RoomMessageEventContent::text_plain(text);
    timeline.send(content.into()).await.unwrap();
}

async fn create(phone: &Phone, name: &str, encrypted: bool, invite: &[&UserId]) -> OwnedRoomId {
    let mut request = CreateRoom::new();
    request.name = Some(name.to_owned());
    request.preset = Some(RoomPreset::PrivateChat);
    request.invite = invite.iter().map(|user| (*user).to_owned()).collect();
    if encrypted {
        let content = RoomEncryptionEventContent::with_recommended_defaults();
        request.initial_state =
            vec![InitialStateEvent::with_empty_state_key(content).to_raw_any()];
    }
    let room = phone.client.create_room(request).await.unwrap();
    room.room_id().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_phones_talk_over_sliding_sync_across_a_restart() {
    let mut server = Skerry::start();
    let ada = Phone::register(&server.url, "ada").await;
    let grace = Phone::register(&server.url, "grace").await;

    for n in 0..25 {
        create(&ada, &format!("room {n:02}"), false, &[]).await;
    }
    let talk = create(&ada, "Lighthouse", true, &[grace.user()]).await;
    let invited = grace.room(&talk, RoomState::Invited).await;
    until("the invite to have its name", || async {
        (invited.display_name().await.ok()?.to_string() == "Lighthouse").then_some(())
    })
    .await;
    invited.join().await.unwrap();
    until("ada's room list to hold every room", || async {
        let joined = ada.client.joined_rooms();
        (joined.len() == 26 && joined.iter().all(|room| room.name().is_some())).then_some(())
    })
    .await;

    let ada_sees = ada.open(&talk).await;
    let grace_sees = grace.open(&talk).await;
    until("ada to see grace join", || async {
        let room = ada.client.get_room(&talk)?;
        (room.joined_members_count() == 2).then_some(())
    })
    .await;
    say(&ada_sees, "the lamp is lit").await;
    let lit = reads(&grace_sees, "the lamp is lit").await;
    say(&grace_sees, "I see it from here").await;
    reads(&ada_sees, "I see it from here").await;

    read_react_edit(&ada, &grace, &ada_sees, &grace_sees, &lit).await;

    server.restart();
    say(&grace_sees, "still burning?").await;
    reads(&ada_sees, "still burning?").await;
    say(&ada_sees, "still burning.").await;
    reads(&grace_sees, "still burning.").await;

    let room = grace.client.get_room(&talk).unwrap();
    room.leave().await.unwrap();
    grace.room(&talk, RoomState::Left).await;
    ada.sync.stop().await;
    grace.sync.stop().await;
    server.end();
}

async fn read_react_edit(
    ada: &Phone,
    grace: &Phone,
    ada_sees: &Timeline,
    grace_sees: &Timeline,
    lit: &OwnedEventId,
) {
    grace_sees
        .send_single_receipt(ReceiptType::Read, lit.clone())
        .await
        .unwrap();
    until("grace's receipt to reach ada", || async {
        let (_, receipt) = ada_sees.latest_user_read_receipt(grace.user()).await?;
        receipt.ts.map(|_| ())
    })
    .await;
    let item = grace_sees.item_by_event_id(lit).await.unwrap();
    grace_sees
        .toggle_reaction(&item.identifier(), "🔦")
        .await
        .unwrap();
    until("the reaction to reach ada", || async {
        let item = ada_sees.item_by_event_id(lit).await?;
        let reactions = item.content().reactions()?.clone();
        reactions.get("🔦")?.get(grace.user()).map(|_| ())
    })
    .await;
    let own = ada_sees.item_by_event_id(lit).await.unwrap();
    let edit = matrix_sdk::room::edit::EditedContent::RoomMessage(
        RoomMessageEventContent::text_plain("the lamp is bright").into(),
    );
    ada_sees.edit(&own.identifier(), edit).await.unwrap();
    reads(grace_sees, "the lamp is bright").await;
    grace
        .client
        .get_room(ada_sees.room().room_id())
        .unwrap()
        .typing_notice(true)
        .await
        .unwrap();
    let (_guard, mut typing) = ada_sees.room().subscribe_to_typing_notifications();
    grace
        .client
        .get_room(ada_sees.room().room_id())
        .unwrap()
        .typing_notice(false)
        .await
        .unwrap();
    grace
        .client
        .get_room(ada_sees.room().room_id())
        .unwrap()
        .typing_notice(true)
        .await
        .unwrap();
    let typists = tokio::time::timeout(std::time::Duration::from_secs(30), async {
        loop {
            let now = typing.recv().await.unwrap();
            if now.contains(&grace.user().to_owned()) {
                return now;
            }
        }
    })
    .await
    .expect("ada sees grace type");
    assert!(!typists.contains(&ada.user().to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_is_turned_into_a_notification_and_a_space_shows_its_rooms() {
    let server = Skerry::start();
    let ada = Phone::register(&server.url, "ada").await;
    let grace = Phone::register(&server.url, "grace").await;
    let talk = create(&ada, "Harbour", true, &[grace.user()]).await;
    grace
        .room(&talk, RoomState::Invited)
        .await
        .join()
        .await
        .unwrap();
    let ada_sees = ada.open(&talk).await;
    until("ada to see grace join", || async {
        (ada_sees.room().joined_members_count() == 2).then_some(())
    })
    .await;
    say(&ada_sees, "ship ahoy").await;
    let ahoy = reads(&ada_sees, "ship ahoy").await;

    // as the app does when a push with nothing but ids wakes it
    let setup = NotificationProcessSetup::SingleProcess {
        sync_service: grace.sync.clone(),
    };
    let notifications = NotificationClient::new(grace.client.clone(), setup)
        .await
        .unwrap();
    let status = notifications
        .get_notification_with_sliding_sync(&talk, &ahoy)
        .await
        .unwrap();
    assert!(
        matches!(&status, NotificationStatus::Event(item) if item.room_computed_display_name == "Harbour"),
        "{status:?}"
    );

    let mut request = CreateRoom::new();
    request.name = Some("Fleet".to_owned());
    let mut content = CreationContent::new();
    content.room_type = Some(RoomType::Space);
    request.creation_content = Some(Raw::new(&content).unwrap());
    let space = ada.client.create_room(request).await.unwrap();
    for child in [&talk, &create(&ada, "Drydock", false, &[]).await] {
        let link = serde_json::json!({ "via": ["localhost"] });
        space
            .send_state_event_raw(
                &StateEventType::SpaceChild.to_string(),
                child.as_str(),
                link,
            )
            .await
            .unwrap();
    }
    let spaces = SpaceService::new(ada.client.clone()).await;
    let list = spaces.space_room_list(space.room_id().to_owned()).await;
    list.paginate().await.unwrap();
    let mut names: Vec<String> = list
        .rooms()
        .await
        .into_iter()
        .map(|room| room.display_name)
        .collect();
    names.sort();
    assert_eq!(names, ["Drydock", "Harbour"]);
    ada.sync.stop().await;
    grace.sync.stop().await;
}
