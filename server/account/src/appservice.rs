//! Application services: who they are, which ids are theirs, whom they act as, what is on its
//! way to them (application service API).
//!
//! All registrations are in memory, compiled, in one list that is replaced as a whole when one
//! comes or goes; those made at run time are also in a table, those of the configuration come
//! from files. Sending is left to those who can reach other machines.

mod acting;
mod namespace;
mod registration;
pub mod sending;
pub(crate) mod users;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use skerry_store::outbox::{self, Dest};
use skerry_store::schema::appservice as t;
use skerry_store::{Scan, Snapshot};
use tokio::sync::watch;

pub use acting::Acting;
pub use namespace::Namespace;
pub use registration::{Registration, RegistrationError};
pub use sending::Waiting;

use crate::facade::Inner;
use crate::{AccountError, AccountSettings, Accounts, TokenHash, secret};

/// Most application services at once.
const SERVICES_MAX: usize = 200;

/// Where a registration comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file that the configuration names.
    File,
    /// The command line, at run time.
    Stored,
}

/// An application service.
#[derive(Debug)]
pub struct Appservice {
    /// Its registration.
    pub registration: Registration,
    /// Its id, to be shared.
    pub id: Arc<str>,
    /// The id of its own user.
    pub sender: Arc<str>,
    /// Where its registration comes from.
    pub origin: Origin,
    server_name: Arc<str>,
    token: TokenHash,
}

impl Appservice {
    fn new(registration: Registration, origin: Origin, settings: &AccountSettings) -> Appservice {
        let server_name: Arc<str> = settings.server_name.as_str().into();
        Appservice {
            id: registration.id.as_str().into(),
            sender: format!("@{}:{server_name}", registration.sender_localpart).into(),
            token: secret::hash(&settings.pepper, &registration.as_token),
            server_name,
            origin,
            registration,
        }
    }

    fn is_local(&self, user_id: &str) -> bool {
        user_id
            .split_once(':')
            .is_some_and(|(_, server)| *server == *self.server_name)
    }

    /// Whether it may act as this user, and hears of what concerns them: its own user, and users
    /// of this server in its namespace.
    #[must_use]
    pub fn has_user(&self, user_id: &str) -> bool {
        self.is_local(user_id) && (*user_id == *self.sender || self.registration.users.has(user_id))
    }

    /// Whether nobody else may make this user.
    #[must_use]
    pub fn has_user_alone(&self, user_id: &str) -> bool {
        self.is_local(user_id)
            && (*user_id == *self.sender || self.registration.users.has_alone(user_id))
    }

    /// Whether anything is sent to it.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.registration.url.is_some()
    }
}

/// All application services, as they are until one comes or goes.
#[derive(Debug, Default)]
pub struct Appservices {
    list: Vec<Arc<Appservice>>,
    by_token: HashMap<TokenHash, Arc<Appservice>>,
    generation: u64,
    any_listens: bool,
}

impl Appservices {
    fn new(list: Vec<Arc<Appservice>>, generation: u64) -> Appservices {
        let by_token = list.iter().map(|one| (one.token, one.clone())).collect();
        Appservices {
            any_listens: list.iter().any(|one| one.listens()),
            list,
            by_token,
            generation,
        }
    }

    /// All of them, sorted by id.
    #[must_use]
    pub fn all(&self) -> &[Arc<Appservice>] {
        &self.list
    }

    /// Moves on with each change of the list.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether anything is sent to any of them.
    #[must_use]
    pub fn any_listens(&self) -> bool {
        self.any_listens
    }

    /// The one of this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Arc<Appservice>> {
        self.list.iter().find(|one| *one.id == *id)
    }

    /// The others, who may keep something to themselves.
    fn others<'a>(&'a self, id: Option<&'a str>) -> impl Iterator<Item = &'a Arc<Appservice>> {
        self.list.iter().filter(move |one| Some(&*one.id) != id)
    }

    /// Whether this user belongs to an application service other than `asker` alone.
    #[must_use]
    pub fn keeps_user(&self, user_id: &str, asker: Option<&str>) -> bool {
        self.others(asker).any(|one| one.has_user_alone(user_id))
    }

    /// Whether this alias belongs to an application service other than `asker` alone.
    #[must_use]
    pub fn keeps_alias(&self, alias: &str, asker: Option<&str>) -> bool {
        self.others(asker)
            .any(|one| one.registration.aliases.has_alone(alias))
    }

    /// Whether the token or id of a registration is taken by another than the one it replaces.
    fn clash(&self, new: &Registration, token: &TokenHash) -> Option<String> {
        let other = self.by_token.get(token)?;
        (*other.id != *new.id).then(|| {
            format!(
                "as_token: {:?} has the same one; each needs one of its own",
                other.id
            )
        })
    }
}

/// The list of the moment, and a bell for those who follow it.
pub(crate) struct Registry {
    now: RwLock<Arc<Appservices>>,
    changed: watch::Sender<u64>,
}

impl Default for Registry {
    fn default() -> Registry {
        Registry {
            now: RwLock::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Registry {
    fn now(&self) -> Arc<Appservices> {
        self.now.read().clone()
    }

    /// Puts another list in place. What stays as it was stays the same in memory.
    fn replace(&self, mut list: Vec<Arc<Appservice>>) {
        list.sort_by(|a, b| a.id.cmp(&b.id));
        let mut now = self.now.write();
        let generation = now.generation + 1;
        *now = Arc::new(Appservices::new(list, generation));
        drop(now);
        self.changed.send_replace(generation);
    }
}

impl Inner {
    /// Reads all registrations, at start: those of the files, and those in the table.
    pub(crate) fn read_appservices(&self) -> Result<(), AccountError> {
        let mut list: Vec<Arc<Appservice>> = Vec::new();
        for file in &self.settings.appservices {
            let known = Appservices::new(list.clone(), 0);
            if known.get(&file.id).is_some() {
                return Err(AccountError::Registration(format!(
                    "two registration files have the id {:?}",
                    file.id
                )));
            }
            self.check_clash(&known, file)?;
            list.push(self.appservice(file.clone(), Origin::File));
        }
        for stored in stored(&self.store.newest())? {
            let known = Appservices::new(list.clone(), 0);
            let clash =
                known.get(&stored.id).is_some() || self.check_clash(&known, &stored).is_err();
            if clash {
                tracing::warn!(
                    id = stored.id,
                    "a registration made at run time is left out: a file has its id or as_token"
                );
                continue;
            }
            list.push(self.appservice(stored, Origin::Stored));
        }
        for one in &list {
            self.make_sender(one)?;
        }
        self.appservices.replace(list);
        Ok(())
    }

    fn appservice(&self, registration: Registration, origin: Origin) -> Arc<Appservice> {
        Arc::new(Appservice::new(registration, origin, &self.settings))
    }

    fn check_clash(&self, known: &Appservices, new: &Registration) -> Result<(), AccountError> {
        let token = secret::hash(&self.settings.pepper, &new.as_token);
        match known.clash(new, &token) {
            Some(why) => Err(AccountError::Registration(format!("{:?}: {why}", new.id))),
            None if known.list.len() >= SERVICES_MAX => Err(AccountError::Registration(format!(
                "at most {SERVICES_MAX} application services"
            ))),
            None => Ok(()),
        }
    }
}

/// The registrations in the table. One that cannot be read (any more) is passed over.
fn stored(snap: &Snapshot) -> Result<Vec<Registration>, AccountError> {
    let mut found = Vec::new();
    for row in snap.scan::<t::Appservices>(Scan::all()) {
        let (id, row) = row?;
        let source = serde_json::from_str(&row.source).unwrap_or_default();
        match Registration::read(source) {
            Ok(registration) => found.push(registration),
            Err(error) => tracing::error!(id, %error, "a stored registration cannot be used"),
        }
    }
    Ok(found)
}

impl Accounts {
    /// All application services of the moment.
    #[must_use]
    pub fn appservices(&self) -> Arc<Appservices> {
        self.inner.appservices.now()
    }

    /// Told whenever the list of application services changes.
    #[must_use]
    pub fn appservices_bell(&self) -> watch::Receiver<u64> {
        self.inner.appservices.changed.subscribe()
    }

    /// Registers an application service, or replaces one that was registered this way. It counts
    /// from now on.
    ///
    /// # Errors
    /// `Registration` for an id or token that another one has.
    pub async fn register_appservice(
        &self,
        registration: Registration,
    ) -> Result<Arc<Appservice>, AccountError> {
        let _one_at_a_time = self.inner.registry_lane.lock(()).await;
        let known = self.appservices();
        if known
            .get(&registration.id)
            .is_some_and(|one| one.origin == Origin::File)
        {
            return Err(AccountError::Registration(format!(
                "{:?} is registered by a file of the configuration; change it there",
                registration.id
            )));
        }
        self.inner.check_clash(&known, &registration)?;
        let new = self.inner.appservice(registration, Origin::Stored);
        let (made, added) = (new.clone(), known);
        let sender = self.inner.store.intern_user(&new.sender)?;
        self.change_registering(Some(sender), move |tx| {
            users::put_sender(tx, sender, &made)?;
            let row = t::Appservice {
                source: made.registration.source.to_string(),
                at_ms: tx.now_ms(),
                pos: tx.w.stamp(),
            };
            tx.w.put::<t::Appservices>(&made.registration.id, &row);
            let mut list = added.list.clone();
            list.retain(|one| one.id != made.id);
            list.push(made);
            tx.appservices = Some(list);
            Ok(())
        })
        .await?;
        Ok(new)
    }

    /// All application services, sorted by id, with what waits for each.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list_appservices(&self) -> Result<Vec<(Arc<Appservice>, Waiting)>, AccountError> {
        let known = self.appservices();
        self.read(move |_, snap| {
            let all = known.all().iter();
            let all = all.map(|one| Ok((one.clone(), sending::waiting(snap, &one.id)?)));
            all.collect()
        })
        .await
    }

    /// Takes an application service out that was registered at run time, with what was still to
    /// be sent to it. Its users stay.
    ///
    /// # Errors
    /// `NotFound`, `Registration` for one that comes from a file.
    pub async fn unregister_appservice(&self, id: &str) -> Result<(), AccountError> {
        let _one_at_a_time = self.inner.registry_lane.lock(()).await;
        let known = self.appservices();
        let Some(one) = known.get(id).cloned() else {
            return Err(AccountError::NotFound("No such application service"));
        };
        if one.origin == Origin::File {
            return Err(AccountError::Registration(format!(
                "{id:?} is registered by a file of the configuration; take it out there"
            )));
        }
        self.change_registering(None, move |tx| {
            tx.w.delete::<t::Appservices>(&one.registration.id);
            outbox::clear(&mut tx.w, &Dest::Appservice(one.registration.id.clone()));
            sending::put_arrived(&mut tx.w, &tx.snap, &one.id)?;
            let mut list = known.list.clone();
            list.retain(|other| other.id != one.id);
            tx.appservices = Some(list);
            Ok(())
        })
        .await
    }
}

impl Inner {
    /// Puts a list of application services in place that a change has decided on, once applied.
    pub(crate) fn settle_appservices(&self, list: Option<Vec<Arc<Appservice>>>) {
        if let Some(list) = list {
            self.appservices.replace(list);
        }
    }
}
