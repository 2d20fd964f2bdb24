//! Inviting people by their address.
//!
//! If the identity server knows whose address it is, that user is invited. Else it keeps the
//! invite, and the room gets an event that waits. Once somebody shows there that the address is
//! theirs, the identity server signs that, and tells the server of that user (`3pid/onbind`), or
//! the user brings the signature along when they join: then the waiting event becomes an invite.

use serde::Deserialize;
use serde_json::{Value, json};
use skerry_account::AccountError;
use skerry_core::canonical::{Mode, Object};
use skerry_core::hash::decode_base64;
use skerry_core::keys::verify;
use skerry_core::names;
use skerry_room::{CreateRoom, InviteCard, Move, StateEvent, THIRD_PARTY_INVITE, Who};

use super::{Identity, IdentityError, checked_token, url_of};
use crate::http::Request;

/// How many keys of a waiting event are tried.
const MAX_KEYS: usize = 10;
/// How many invites one call of `onbind` may bring.
const MAX_INVITES: usize = 50;
/// How many people can be invited with a new room.
const MAX_AT_ONCE: usize = 20;
/// Longest token, name or URL of an identity server that is taken into a room, in bytes.
const MAX_TEXT_BYTES: usize = 1_024;

/// Somebody to be invited by their address.
#[derive(Clone, Debug, Deserialize)]
pub struct AddressInvite {
    /// The identity server.
    pub id_server: String,
    /// The inviter's access token there.
    pub id_access_token: String,
    /// The kind of address.
    pub medium: String,
    /// The address.
    pub address: String,
}

/// Who somebody with an address is.
enum Invitee {
    /// A user.
    User(String),
    /// Nobody that the identity server knows.
    Unknown(AddressInvite),
}

/// What an identity server tells the server of a user who now has an address.
#[derive(Clone, Debug, Deserialize)]
pub struct OnBind {
    /// The user.
    pub mxid: String,
    /// The invites that waited for the address.
    #[serde(default)]
    pub invites: Vec<BoundInvite>,
}

/// One of these invites.
#[derive(Clone, Debug, Deserialize)]
pub struct BoundInvite {
    /// The room.
    pub room_id: String,
    /// Who invited.
    pub sender: String,
    /// What the identity server signed: user, token, signatures.
    pub signed: Value,
}

/// What an identity server answers when it keeps an invite.
#[derive(Deserialize)]
struct Stored {
    token: String,
    display_name: String,
    #[serde(default)]
    public_keys: Vec<PublicKey>,
}

#[derive(Deserialize)]
struct PublicKey {
    public_key: String,
    key_validity_url: String,
}

impl Identity {
    /// Who somebody with an address is.
    ///
    /// # Errors
    /// [`IdentityError`].
    async fn invitee(&self, mut invite: AddressInvite) -> Result<Invitee, IdentityError> {
        let (medium, token) = (&invite.medium, &invite.id_access_token);
        let address = skerry_account::address::comparable(medium, &invite.address)?;
        let found = self
            .look_up(&invite.id_server, token, (medium, &address))
            .await?;
        invite.address = address;
        Ok(found.map_or(Invitee::Unknown(invite), Invitee::User))
    }

    /// Invites somebody by their address.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub async fn invite(
        &self,
        who: Who,
        room_id: &str,
        invite: AddressInvite,
        reason: Option<String>,
    ) -> Result<(), IdentityError> {
        let card = self.rooms.may_invite(who.clone(), room_id).await?;
        match self.invitee(invite).await? {
            Invitee::User(user_id) => {
                let how = Move {
                    reason,
                    content: None,
                };
                let invited = self.federation.invite(who, room_id, &user_id, how);
                Ok(invited.await?)
            }
            Invitee::Unknown(invite) => self.keep(who, room_id, invite, card).await,
        }
    }

    /// Lets the identity server keep an invite, and the room wait for whom it is for.
    ///
    /// # Errors
    /// [`IdentityError`].
    async fn invite_unknown(
        &self,
        who: Who,
        room_id: &str,
        invite: AddressInvite,
    ) -> Result<(), IdentityError> {
        let card = self.rooms.may_invite(who.clone(), room_id).await?;
        self.keep(who, room_id, invite, card).await
    }

    async fn keep(
        &self,
        who: Who,
        room_id: &str,
        invite: AddressInvite,
        card: InviteCard,
    ) -> Result<(), IdentityError> {
        let body = json!({
            "medium": invite.medium,
            "address": invite.address,
            "room_id": room_id,
            "sender": &*who.user_id,
            "room_name": card.name.unwrap_or_default(),
            "room_avatar_url": card.avatar_url.unwrap_or_default(),
            "room_alias": card.alias.unwrap_or_default(),
            "room_join_rules": card.join_rule.unwrap_or_default(),
            "room_type": card.kind.unwrap_or_default(),
            "sender_display_name": card.sender_name.unwrap_or_default(),
            "sender_avatar_url": card.sender_avatar.unwrap_or_default(),
        });
        let request = Request::post(&url_of(&invite.id_server, "store-invite")?)
            .bearer(checked_token(&invite.id_access_token)?)
            .json(&body);
        let (token, content) = waiting(self.ask(request).await?)?;
        let event = StateEvent {
            kind: THIRD_PARTY_INVITE.to_owned(),
            key: token,
            content: content.to_string().into_bytes(),
            sticky_ms: None,
            ts: None,
        };
        self.rooms.set_state(who, room_id, event).await?;
        Ok(())
    }

    /// Joins a room to which one was invited by an address. `signed` is what the identity server
    /// signed: `mxid`, `sender`, `token`, `signatures`.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub async fn join(
        &self,
        who: Who,
        room_id: &str,
        signed: Value,
        how: Move,
    ) -> Result<String, IdentityError> {
        let sender = signed.get("sender").and_then(Value::as_str);
        let sender = sender.ok_or(IdentityError::Missing("third_party_signed.sender"))?;
        self.exchange(room_id, sender, &who.user_id, &signed)
            .await?;
        let via = names::server_of(sender).map(str::to_owned);
        let via = via.into_iter().collect();
        Ok(self.federation.join(who, room_id, via, how).await?)
    }

    /// Makes a room to which people are invited also by their addresses. Who they are is asked
    /// first, and nothing is made if that cannot be told; that an identity server keeps an invite
    /// comes last, and does not unmake the room.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub async fn create(
        &self,
        who: Who,
        mut room: CreateRoom,
        invites: Vec<AddressInvite>,
    ) -> Result<String, IdentityError> {
        if invites.len() > MAX_AT_ONCE {
            let why = "At most 20 people can be invited by address at once";
            return Err(AccountError::TooLarge(why).into());
        }
        let mut unknown = Vec::new();
        for invite in invites {
            match self.invitee(invite).await? {
                Invitee::User(user_id) if !room.invite.contains(&user_id) => {
                    room.invite.push(user_id);
                }
                Invitee::User(_) => {}
                Invitee::Unknown(invite) => unknown.push(invite),
            }
        }
        let room_id = self.federation.create(who.clone(), room).await?;
        for invite in unknown {
            if let Err(error) = self.invite_unknown(who.clone(), &room_id, invite).await {
                tracing::warn!(%error, room_id, "somebody was not invited by their address");
            }
        }
        Ok(room_id)
    }

    /// An identity server tells that a user of this server now has an address for which invites
    /// waited. Each one is good by its signature, and none holds up another. Where a user of
    /// another server invited, that server is asked.
    ///
    /// # Errors
    /// `Signature` for what is no user of this server; else why the last of those failed that did.
    pub async fn on_bind(&self, told: OnBind) -> Result<(), IdentityError> {
        if !names::is_user_id(&told.mxid) || !self.rooms.is_local(&told.mxid) {
            return Err(IdentityError::Signature("Not a user of this server"));
        }
        let mut result = Ok(());
        for invite in told.invites.into_iter().take(MAX_INVITES) {
            let BoundInvite {
                room_id,
                sender,
                signed,
            } = invite;
            let taken = self.exchange(&room_id, &sender, &told.mxid, &signed).await;
            if let Err(error) = taken {
                tracing::info!(%error, room_id, "a third-party invite was not taken up");
                result = Err(error);
            }
        }
        result
    }

    async fn exchange(
        &self,
        room_id: &str,
        sender: &str,
        target: &str,
        signed: &Value,
    ) -> Result<(), IdentityError> {
        const NONE: IdentityError = IdentityError::Signature("There is no such invite");
        const WRONG: IdentityError =
            IdentityError::Signature("The invite is not signed by its identity server");
        let signed = Object::from_json(signed, Mode::Strict).map_err(|_| WRONG)?;
        if signed.str("mxid") != Some(target) {
            return Err(WRONG);
        }
        let token = signed.str("token").ok_or(WRONG)?;
        if !self.rooms.is_local(sender) {
            // Only their server can invite in their name; it looks at all this itself.
            if !names::is_user_id(sender) {
                return Err(NONE);
            }
            let asked = self
                .federation
                .ask_for_invite(room_id, (sender, target), &signed);
            return Ok(asked.await?);
        }
        let waiting = self.rooms.waiting_invite(room_id, token).await?;
        let waiting = waiting.filter(|waiting| waiting.sender == sender);
        let waiting = waiting.ok_or(NONE)?;
        let (key, url) = signing_key(&waiting.content, &signed).ok_or(WRONG)?;
        if !self.key_is_good(&url, &key).await? {
            return Err(IdentityError::Signature(
                "The key of the invite was withdrawn",
            ));
        }
        let taken = self.rooms.take_up_invite(room_id, sender, target, signed);
        Ok(taken.await?)
    }
}

/// Token and content of the event that waits.
fn waiting(answer: Value) -> Result<(String, Value), IdentityError> {
    let stored: Stored = serde_json::from_value(answer).map_err(|_| IdentityError::Answer)?;
    let mut keys = stored.public_keys;
    keys.truncate(MAX_KEYS);
    let fits = |text: &str| !text.is_empty() && text.len() <= MAX_TEXT_BYTES;
    let all_fit = keys
        .iter()
        .all(|key| fits(&key.public_key) && fits(&key.key_validity_url));
    let first = keys.first().ok_or(IdentityError::Answer)?;
    let token_fits = !stored.token.is_empty() && stored.token.len() <= 255;
    if !token_fits || stored.display_name.len() > MAX_TEXT_BYTES || !all_fit {
        return Err(IdentityError::Answer);
    }
    let listed: Vec<Value> = keys
        .iter()
        .map(
            |key| json!({ "public_key": key.public_key, "key_validity_url": key.key_validity_url }),
        )
        .collect();
    let content = json!({
        "display_name": stored.display_name,
        "public_key": first.public_key,
        "key_validity_url": first.key_validity_url,
        "public_keys": listed,
    });
    Ok((stored.token, content))
}

/// The key of a waiting event by which something is signed, and where to ask whether it is still
/// good.
fn signing_key(waiting: &Object, signed: &Object) -> Option<(String, String)> {
    let mut text = String::new();
    signed.write_without(&["signatures", "unsigned"], &mut text);
    let listed = waiting.get("public_keys").and_then(|keys| keys.as_array());
    let listed = listed.unwrap_or_default().iter();
    let keys = std::iter::once(waiting)
        .chain(listed.filter_map(|key| key.as_object()))
        .take(MAX_KEYS + 1);
    for key in keys {
        let Some(public) = key.str("public_key") else {
            continue;
        };
        let bytes = decode_base64(public).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let Some(bytes) = bytes else {
            continue;
        };
        let signatures = signed.object("signatures")?.iter();
        let signatures = signatures.filter_map(|(_, of_server)| of_server.as_object());
        let mut signatures = signatures
            .flat_map(|of_server| of_server.iter())
            .take(MAX_KEYS);
        let good = |signature: &str| verify(&bytes, signature, text.as_bytes());
        if signatures.any(|(_, signature)| signature.as_str().is_some_and(good)) {
            let url = key.str("key_validity_url")?;
            return Some((public.to_owned(), url.to_owned()));
        }
    }
    None
}
