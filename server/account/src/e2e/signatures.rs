//! `POST /keys/signatures/upload`: signatures that users add to keys after their upload.
//!
//! Three kinds are known: a self-signing key signs a device of the same user, a device signs its
//! user's master key, a user-signing key signs another user's master key. The last kind is shown
//! to nobody but its maker, so that nobody learns who knows whom.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;
use skerry_core::UserNid;
use skerry_store::schema::e2e::{
    CrossKeyRow, CrossKeyTable, CrossKind, DeviceKeyTable, KeySignatureTable,
};
use skerry_store::{Scan, Snapshot, StoreError, Write};

use super::{Keys, KeysError, Owner, lists, signed};

/// What is uploaded: owner of the key, device id or public key, the object with new signatures.
pub type SignatureUpload = BTreeMap<String, BTreeMap<String, Box<RawValue>>>;

/// Why one of the signatures was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureFailure {
    /// No such key is known here.
    NotFound,
    /// The object is not the key that is known under this id, or no object at all.
    Mismatch,
    /// No signature in it is one that this user can make, or one does not verify.
    Invalid,
}

/// What was not taken, by owner and key.
pub type SignatureFailures = BTreeMap<String, BTreeMap<String, SignatureFailure>>;

/// A signature that was added to a key.
pub(super) struct Added {
    /// User id of who signed.
    pub(super) signer: Arc<str>,
    /// Device id or public key that is signed.
    pub(super) item: String,
    /// Id of the signing key.
    pub(super) key_id: String,
    /// The signature, in base64.
    pub(super) signature: String,
}

/// Signatures about keys of `owner` that `viewer` may see: the owner's and the viewer's own.
pub(super) fn visible(
    snap: &Snapshot,
    owner: &Owner,
    viewer: &Owner,
) -> Result<Vec<Added>, StoreError> {
    let mut added = Vec::new();
    let both = [owner, viewer];
    let signers = if owner.user == viewer.user {
        &both[..1]
    } else {
        &both[..]
    };
    for signer in signers {
        for row in snap.scan::<KeySignatureTable>(Scan::prefix(&(owner.user, signer.user))) {
            let ((_, _, item, key_id), signature) = row?;
            added.push(Added {
                signer: signer.user_id.clone(),
                item,
                key_id,
                signature,
            });
        }
    }
    Ok(added)
}

/// Removes all signatures about one of a user's keys, and those that it made about the user's
/// other keys, because the key (named by device id or public key) is gone.
pub(super) fn drop_about(
    snap: &Snapshot,
    w: &mut Write,
    owner: UserNid,
    item: &str,
) -> Result<(), StoreError> {
    let made_by = format!("ed25519:{item}");
    for row in snap.scan::<KeySignatureTable>(Scan::prefix(&owner)) {
        let (key, _) = row?;
        if key.2 == item || (key.1 == owner && key.3 == made_by) {
            w.delete::<KeySignatureTable>(&key);
        }
    }
    Ok(())
}

impl Keys {
    /// Adds signatures made by keys of `signer`, and answers which were not taken and why. Those
    /// that are known already are taken without a word.
    /// Spec: client-server API, `POST /keys/signatures/upload`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn upload_signatures(
        &self,
        signer: &Owner,
        upload: SignatureUpload,
    ) -> Result<SignatureFailures, KeysError> {
        let signer = signer.clone();
        self.in_lane(signer.user, move |keys, w| {
            Ok(Signing {
                snap: keys.store().newest(),
                keys,
                signer: &signer,
            }
            .add_all(w, upload)?)
        })
        .await
    }
}

/// One upload being worked on.
struct Signing<'a> {
    snap: Snapshot,
    keys: &'a Keys,
    signer: &'a Owner,
}

/// A key that can be signed: the JSON stored, and the public keys that may sign it, by key id.
struct Target {
    table: &'static str,
    json: String,
    signers: BTreeMap<String, String>,
}

impl Signing<'_> {
    fn add_all(
        &self,
        w: &mut Write,
        upload: SignatureUpload,
    ) -> Result<SignatureFailures, StoreError> {
        let mut failures = SignatureFailures::new();
        for (user_id, items) in upload {
            // Users of other servers as well: their master keys are known where they are followed.
            let owner = self.keys.store().user_nid(&user_id)?;
            let mut added = Vec::new();
            for (item, raw) in items {
                let outcome = match owner {
                    Some(owner) => self.add(w, owner, &item, &raw)?,
                    None => Err(SignatureFailure::NotFound),
                };
                match outcome {
                    Ok(true) => added.push(item),
                    Ok(false) => {}
                    Err(failure) => {
                        failures
                            .entry(user_id.clone())
                            .or_default()
                            .insert(item, failure);
                    }
                }
            }
            if let Some(owner) = owner.filter(|_| !added.is_empty()) {
                self.note_added(w, owner, &added)?;
            }
        }
        Ok(failures)
    }

    /// Notes for those who may see it that keys of `owner` have new signatures.
    fn note_added(
        &self,
        w: &mut Write,
        owner: UserNid,
        items: &[String],
    ) -> Result<(), StoreError> {
        if owner != self.signer.user {
            lists::note_private(w, self.signer.user, owner);
            return Ok(());
        }
        for item in items {
            let slot = (owner, item.clone());
            if self.snap.get::<DeviceKeyTable>(&slot)?.is_some() {
                lists::note_device(w, owner, item);
            } else {
                lists::note_own_keys(w, owner);
            }
        }
        Ok(())
    }

    /// Adds the signatures of one object; whether there was a new one.
    fn add(
        &self,
        w: &mut Write,
        owner: UserNid,
        item: &str,
        raw: &RawValue,
    ) -> Result<Result<bool, SignatureFailure>, StoreError> {
        let target = if owner == self.signer.user {
            self.own_key(item)?
        } else {
            self.others_master(owner, item)?
        };
        let Some(target) = target else {
            return Ok(Err(SignatureFailure::NotFound));
        };
        let Ok(object) = signed::object(raw, "a signed key") else {
            return Ok(Err(SignatureFailure::Mismatch));
        };
        let known = signed::stored(target.table, &target.json)?;
        let text = signed::signed_text(&known);
        if signed::signed_text(&object) != text {
            return Ok(Err(SignatureFailure::Mismatch));
        }
        let mut new = Vec::new();
        let mut repeated = false;
        for (key_id, signature) in signed::signatures_of(&object, &self.signer.user_id) {
            let row = (owner, self.signer.user, item.to_owned(), key_id.to_owned());
            let uploaded = signed::signatures_of(&known, &self.signer.user_id)
                .any(|known| known == (key_id, signature));
            let stored = self.snap.get::<KeySignatureTable>(&row)?;
            if uploaded || stored.as_deref() == Some(signature) {
                repeated = true;
                continue;
            }
            // A signature by a key that is gone, or of a kind we do not know, is nobody's fault.
            let Some(public) = target.signers.get(key_id) else {
                continue;
            };
            if !signed::verifies(&text, public, signature) {
                return Ok(Err(SignatureFailure::Invalid));
            }
            new.push((row, signature.to_owned()));
        }
        for (row, signature) in &new {
            w.put::<KeySignatureTable>(row, signature);
        }
        let any = !new.is_empty();
        Ok(if any || repeated {
            Ok(any)
        } else {
            Err(SignatureFailure::Invalid)
        })
    }

    /// A key of the signer's own: a device, signed by the self-signing key, or the master key,
    /// signed by devices.
    fn own_key(&self, item: &str) -> Result<Option<Target>, StoreError> {
        let user = self.signer.user;
        if let Some(row) = self.snap.get::<DeviceKeyTable>(&(user, item.to_owned()))? {
            let signers = self
                .cross(user, CrossKind::SelfSigning)?
                .map(|key| by_id(key.public));
            let signers = signers.into_iter().collect();
            return Ok(Some(Target {
                table: "device_key",
                json: row.json,
                signers,
            }));
        }
        let master = self
            .cross(user, CrossKind::Master)?
            .filter(|key| key.public == item);
        let Some(master) = master else {
            return Ok(None);
        };
        let mut signers = BTreeMap::new();
        for row in self.snap.scan::<DeviceKeyTable>(Scan::prefix(&user)) {
            let ((_, device), row) = row?;
            let key_id = format!("ed25519:{device}");
            let object = signed::stored("device_key", &row.json)?;
            let keys = object.get("keys").and_then(|keys| keys.as_object());
            if let Some(public) = keys.and_then(|keys| keys.get(&key_id)?.as_str()) {
                signers.insert(key_id, public.to_owned());
            }
        }
        Ok(Some(Target {
            table: "cross_key",
            json: master.json,
            signers,
        }))
    }

    /// Another user's master key, signed by the signer's user-signing key.
    fn others_master(&self, owner: UserNid, item: &str) -> Result<Option<Target>, StoreError> {
        let master = self
            .cross(owner, CrossKind::Master)?
            .filter(|key| key.public == item);
        let Some(master) = master else {
            return Ok(None);
        };
        let signers = self.cross(self.signer.user, CrossKind::UserSigning)?;
        let signers = signers.map(|key| by_id(key.public)).into_iter().collect();
        Ok(Some(Target {
            table: "cross_key",
            json: master.json,
            signers,
        }))
    }

    fn cross(&self, user: UserNid, kind: CrossKind) -> Result<Option<CrossKeyRow>, StoreError> {
        self.snap.get::<CrossKeyTable>(&(user, kind))
    }
}

fn by_id(public: String) -> (String, String) {
    (format!("ed25519:{public}"), public)
}
