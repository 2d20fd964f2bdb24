//! Wiring: each facade is built in order and moved into one context; nothing is global.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use skerry_account::{AccountError, AccountSettings, Accounts, RegistrationSettings};
use skerry_admin::Admin;
use skerry_client::{Calls, ClientConfig, Ctx, Rendezvous};
use skerry_core::{Clock, DiceSource};
use skerry_federation::{FederationConfig, Inbox};
use skerry_http::{Options, RateLimits, Shell};
use skerry_media::prune::Pruner;
use skerry_media::{Blobs, MediaDoor, MediaError, Previews, RemoteMedia};
use skerry_proxy::Acme;
use skerry_remote::federation::Carry;
use skerry_remote::http::Tls;
use skerry_room::{Delays, Rooms, RoomsConfig};
use skerry_store::{Store, StoreError, StoreOptions};
use skerry_sync::Sync;
use skerry_web::Site;
use tokio::sync::watch;

use crate::authenticator::{NoTokens, TokenAuthenticator};
use crate::calls;
use crate::config::{Config, show_bytes};
use crate::health::{self, Health};
use crate::media;
use crate::metrics::{self, Gauges, Sight};
use crate::outgoing::{self, Around, Outgoing};
use crate::pages;
use crate::policing;
use crate::secrets::{self, SecretError, Secrets};

/// Why the server could not be put together, in words for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A secret is missing or wrong.
    #[error("{0}")]
    Secret(#[from] SecretError),
    /// The database cannot be opened.
    #[error("the database in {dir} cannot be opened: {cause}")]
    Store {
        /// Where it lies.
        dir: String,
        /// Why.
        cause: StoreError,
    },
    /// The data is of a server of another name.
    #[error(
        "the data in {dir} belongs to the server {found}, but server_name is {given}; \
         a server keeps its name, since it is part of every id"
    )]
    OtherServer {
        /// Where the database lies.
        dir: String,
        /// Whose the data is.
        found: String,
        /// The name in the configuration.
        given: String,
    },
    /// The accounts cannot be used.
    #[error("accounts: {0}")]
    Accounts(#[from] AccountError),
    /// Requests to other machines cannot be made.
    #[error("http_client: {0}")]
    Outgoing(String),
    /// Other servers cannot be talked with.
    #[error("federation: {0}")]
    Federation(String),
    /// Certificates cannot be got.
    #[error("acme: {0}")]
    Acme(String),
    /// Mail cannot be sent.
    #[error("email: {0}")]
    Mail(String),
    /// The object store of media cannot be used.
    #[error("media.s3: {0}")]
    ObjectStore(String),
    /// The media cannot be used.
    #[error("media: {0}")]
    Media(#[from] MediaError),
}

/// The whole server but its sockets.
pub struct House {
    /// What the operator chose.
    pub config: Arc<Config>,
    /// The database.
    pub store: Arc<Store>,
    /// People and their devices.
    pub accounts: Accounts,
    /// Rooms.
    pub rooms: Rooms,
    /// What changed.
    pub sync: Sync,
    /// Media.
    pub blobs: Arc<Blobs>,
    /// Media of other servers, where we talk with them.
    remote_media: Option<RemoteMedia>,
    /// Deleting media that nothing needs.
    pub pruner: Pruner,
    /// What is said to other machines.
    pub outgoing: Outgoing,
    /// What other servers sent and what is still to be judged.
    pub inbox: Inbox,
    /// What calls go over.
    pub calls: Calls,
    /// Who gets certificates, if the configuration wants any.
    pub acme: Option<Acme>,
    /// What is counted.
    pub gauges: Arc<Gauges>,
    /// What who wants to see it has to show; none: it is seen on the admin socket alone.
    metrics_token: Option<String>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub dice: Arc<dyn DiceSource>,
}

/// How the memory budget is divided; all sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub struct MemoryDivision {
    /// The database: blocks of its files and rows not yet written.
    pub database: u64,
    /// Names and numbers.
    pub names: u64,
    /// Room state and events.
    pub rooms: u64,
    /// How many log-ins are kept, at some 400 bytes each.
    pub sessions: u64,
}

impl MemoryDivision {
    /// Of this budget: the rest is for requests under way.
    #[must_use]
    pub fn of(options: &StoreOptions) -> MemoryDivision {
        let plan = options.memory();
        let budget = options.memory_budget_bytes;
        MemoryDivision {
            database: plan.block_cache_bytes,
            names: plan.names_bytes,
            rooms: budget / 4,
            sessions: (budget / 64 / 400).max(1000),
        }
    }
}

impl std::fmt::Display for MemoryDivision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "database {}, rooms {}, names {}, {} log-ins, the rest for requests",
            show_bytes(self.database),
            show_bytes(self.rooms),
            show_bytes(self.names),
            self.sessions
        )
    }
}

impl House {
    /// Opens the data directory (made at the first start) and builds everything on it. Has to be
    /// called inside a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn open(
        config: Arc<Config>,
        clock: Arc<dyn Clock>,
        dice: Arc<dyn DiceSource>,
    ) -> Result<House, StartError> {
        let options = StoreOptions {
            memory_budget_bytes: config.memory_budget,
            durability: config.durability,
            free_disk_floor_bytes: config.free_disk_floor,
            ..StoreOptions::default()
        };
        House::open_with(config, options, clock, dice)
    }

    /// The same with store options of one's own, for tests.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn open_with(
        config: Arc<Config>,
        options: StoreOptions,
        clock: Arc<dyn Clock>,
        dice: Arc<dyn DiceSource>,
    ) -> Result<House, StartError> {
        House::open_among(config, options, clock, dice, None)
    }

    /// The same with another way to other servers than the internet, for tests.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn open_among(
        config: Arc<Config>,
        options: StoreOptions,
        clock: Arc<dyn Clock>,
        dice: Arc<dyn DiceSource>,
        carry: Option<Arc<dyn Carry>>,
    ) -> Result<House, StartError> {
        secrets::make_data_dir(&config.data_dir)?;
        let secrets = Secrets::load(&config.data_dir, &mut *dice.dice())?;
        let memory = MemoryDivision::of(&options);
        let dir = config.data_dir.join("db");
        // Private even where the data directory was there before and is open to others.
        for part in [&dir, &config.data_dir.join("media")] {
            secrets::make_data_dir(part)?;
        }
        let failed = |cause| StartError::Store {
            dir: dir.display().to_string(),
            cause,
        };
        let store = Store::open(&dir, options).map_err(failed)?;
        let owner = store.owner(&config.server_name).map_err(failed)?;
        same_server(&config, owner)?;
        let parts = outgoing::Parts::new(&config, &secrets.vapid, carry, &clock)?;
        let mut settings = account_settings(&config, secrets.pepper, memory);
        settings.plain_gateway = parts.plain_gateway();
        let accounts = Accounts::new(
            Arc::clone(&store),
            Arc::clone(&clock),
            Arc::clone(&dice),
            settings,
        )?;
        let key = Arc::new(secrets.signing_key);
        let desk = policing::desk(&config, &mut *dice.dice())?;
        let rooms_config = RoomsConfig {
            server_name: Arc::clone(&config.server_name),
            default_version: config.default_room_version,
            notices: config.notices.clone(),
            search_all_users: config.search_all_users,
            key: Arc::clone(&key),
            delays: Delays {
                max_ms: millis(config.calls.max_delay),
                ..Delays::default()
            },
            cache_bytes: usize::try_from(memory.rooms).unwrap_or(usize::MAX),
            redacted_keep_ms: config.redacted_keep_ms,
            retention: config.retention,
        };
        let rooms = Rooms::open(
            Arc::clone(&store),
            accounts.clone(),
            rooms_config,
            Arc::clone(&clock),
            Arc::clone(&dice),
        )
        .map_err(failed)?;
        let sync = Sync::new(accounts.clone(), rooms.clone());
        let blobs = media::open(&config, parts.client(), &store, &clock, &dice)?;
        let pruner = media::pruner(&config, &blobs, &accounts, &rooms);
        let calls = calls::open(&config.calls, parts.client(), &clock)?;
        let outgoing = parts.outgoing(Around {
            config: &config,
            accounts: &accounts,
            rooms: &rooms,
            key,
            clock: &clock,
            dice: &dice,
            desk,
        })?;
        let remote_media = remote_media(&config, &blobs, &pruner, &outgoing);
        if let Some(desk) = outgoing.federation.desk() {
            let files = policing::Files::new(Arc::clone(&blobs), remote_media.clone());
            desk.look_at_media_by(Arc::new(files));
        }
        let inbox = Inbox::open(Arc::clone(&store), Arc::clone(&clock)).map_err(failed)?;
        let acme = open_acme(&config)?;
        let token = config.metrics_token_file.as_deref();
        let metrics_token = token.map(secrets::from_file).transpose()?;
        Ok(House {
            gauges: Arc::default(),
            metrics_token,
            acme,
            remote_media,
            config,
            store,
            accounts,
            rooms,
            sync,
            blobs,
            pruner,
            outgoing,
            inbox,
            calls,
            clock,
            dice,
        })
    }

    /// What is served to clients and to other servers.
    /// Once `stop` is true, reads that wait are given up.
    pub fn public_router(&self, stop: Option<watch::Receiver<bool>>) -> Router {
        let ctx = Arc::new(Ctx {
            calls: self.calls.clone(),
            rendezvous: Rendezvous::default(),
            store: Arc::clone(&self.store),
            accounts: self.accounts.clone(),
            rooms: self.rooms.clone(),
            sync: self.sync.clone(),
            bridges: self.outgoing.bridges.clone(),
            federation: self.outgoing.federation.clone(),
            identity: self.outgoing.identity.clone(),
            people: self.outgoing.people.clone(),
            config: self.client_config(),
            clock: Arc::clone(&self.clock),
            dice: Arc::clone(&self.dice),
        });
        let federation = self.outgoing.federation.clone();
        let authenticator = Arc::new(TokenAuthenticator::new(self.accounts.clone(), federation));
        let options = Options {
            rates: self.config.rates,
            query_tokens: self.config.query_tokens,
            stop,
            metrics: Arc::clone(&self.gauges.requests),
            ..Options::default()
        };
        let mut shell = Shell::builder(options, authenticator, Arc::clone(&self.clock))
            .routes(&ctx, &skerry_client::routes())
            .routes(&self.media_door(), skerry_media::ROUTES)
            .routes(&self.blobs, skerry_media::FEDERATION_ROUTES);
        if let Some(previews) = self.previews() {
            shell = shell.routes(&previews, skerry_media::PREVIEW_ROUTES);
        }
        if self.outgoing.federation.is_enabled() {
            shell = shell.routes(&self.servers(), &skerry_federation::routes());
        }
        if let Some(token) = &self.metrics_token {
            shell = shell.routes(&Sight::of(self, Some(token)), metrics::ROUTES);
        }
        shell
            .routes(&self.admin(), skerry_admin::TOKEN_ROUTES)
            .routes(&self.health(), health::ROUTES)
            .pages(&self.site(), |site, call| {
                Box::pin(skerry_web::page(site, call))
            })
            .router()
    }

    /// What other servers ask.
    fn servers(&self) -> Arc<skerry_federation::Ctx> {
        Arc::new(skerry_federation::Ctx {
            accounts: self.accounts.clone(),
            rooms: self.rooms.clone(),
            federation: self.outgoing.federation.clone(),
            inbox: self.inbox.clone(),
            clock: Arc::clone(&self.clock),
            people: self.outgoing.people.clone(),
            config: FederationConfig {
                server_name: Arc::clone(&self.config.server_name),
                directory: self.config.directory_over_federation,
                version: env!("CARGO_PKG_VERSION"),
            },
        })
    }

    /// Who previews links, where that is on.
    fn previews(&self) -> Option<Arc<Previews>> {
        let client = self.outgoing.previews.clone()?;
        let hosts = self.config.url_preview.as_ref()?.hosts.clone();
        Some(Arc::new(Previews::new(
            Arc::clone(&self.blobs),
            client,
            hosts,
        )))
    }

    /// What the media endpoints work on.
    fn media_door(&self) -> Arc<MediaDoor> {
        Arc::new(MediaDoor {
            blobs: Arc::clone(&self.blobs),
            remote: self.remote_media.clone(),
        })
    }

    fn site(&self) -> Arc<Site> {
        Arc::new(Site::new(pages::settings(&self.config)))
    }

    /// What is served on the admin socket.
    pub fn admin_router(&self) -> Router {
        let admin = self.admin();
        let options = Options {
            rates: RateLimits {
                enabled: false,
                ..RateLimits::default()
            },
            metrics: Arc::clone(&self.gauges.requests),
            ..Options::default()
        };
        Shell::builder(options, Arc::new(NoTokens), Arc::clone(&self.clock))
            .routes(&admin, skerry_admin::ROUTES)
            .routes(&Sight::of(self, None), metrics::ROUTES)
            .routes(&self.health(), health::ROUTES)
            .router()
    }

    fn admin(&self) -> Arc<Admin> {
        Arc::new(Admin {
            accounts: self.accounts.clone(),
            rooms: self.rooms.clone(),
            blobs: Arc::clone(&self.blobs),
            pruner: self.pruner.clone(),
            federation: self.outgoing.federation.clone(),
            version: env!("CARGO_PKG_VERSION"),
        })
    }

    fn health(&self) -> Arc<Health> {
        Arc::new(Health {
            store: Arc::clone(&self.store),
            clock: Arc::clone(&self.clock),
            disk: (self.config.data_dir.clone(), self.config.free_disk_floor),
            acme: self.acme.clone(),
            policy_key: self
                .outgoing
                .federation
                .desk()
                .map(|desk| desk.public_key()),
            server: self.config.well_known.server.clone(),
            base_url: self.config.base_url.clone(),
            livekit: self.calls.livekit.is_some(),
            client_extra: self.config.well_known.client_extra.clone(),
            support: self.config.well_known.support.clone(),
        })
    }

    fn client_config(&self) -> ClientConfig {
        let config = &self.config;
        ClientConfig {
            server_name: Arc::clone(&config.server_name),
            base_url: config.base_url.clone(),
            guests: config.guests,
            directory_without_auth: config.directory_without_auth,
            default_room_version: config.default_room_version.as_str().to_owned(),
            vapid: self.outgoing.vapid.public(),
            shared_secret: config
                .registration
                .shared_secret
                .clone()
                .unwrap_or_default(),
        }
    }

    /// Makes everything durable and lets the database go. Nothing may be in flight any more.
    pub fn close(self) {
        self.store.close();
    }
}

fn open_acme(config: &Config) -> Result<Option<Acme>, StartError> {
    let Some(wanted) = &config.acme else {
        return Ok(None);
    };
    let tls = Tls::new(wanted.ca_file.as_deref()).map_err(|e| e.to_string());
    let tls = tls.and_then(|tls| tls.config()).map_err(StartError::Acme)?;
    let acme = Acme::open(wanted.settings.clone(), tls);
    acme.map(Some).map_err(|e| StartError::Acme(e.to_string()))
}

/// Data made under another server name is left alone.
fn same_server(config: &Config, owner: String) -> Result<(), StartError> {
    if owner == *config.server_name {
        return Ok(());
    }
    Err(StartError::OtherServer {
        dir: config.data_dir.display().to_string(),
        found: owner,
        given: config.server_name.to_string(),
    })
}

fn account_settings(config: &Config, pepper: [u8; 32], memory: MemoryDivision) -> AccountSettings {
    AccountSettings {
        appservices: config.appservices.clone(),
        registration: RegistrationSettings {
            enabled: config.registration.enabled,
            open: config.registration.open,
            shared_secret: config.registration.shared_secret.clone(),
            email_required: config.registration.email_required,
            terms: config.registration.terms.clone(),
        },
        guests: config.guests,
        email: config.mail.is_some(),
        federates: config.federation.policy.is_enabled(),
        tells_device_names: config.federation.device_names,
        password_cost: config.password_cost,
        cached_sessions: usize::try_from(memory.sessions).unwrap_or(usize::MAX),
        service_name: config
            .notices
            .as_ref()
            .map(|notices| notices.localpart.clone()),
        ..AccountSettings::new(&config.server_name, pepper)
    }
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Who fetches media of other servers, where we talk with them.
fn remote_media(
    config: &Config,
    blobs: &Arc<Blobs>,
    pruner: &Pruner,
    outgoing: &Outgoing,
) -> Option<RemoteMedia> {
    let federation = &outgoing.federation;
    federation.is_enabled().then(|| {
        RemoteMedia::new(
            (Arc::clone(blobs), pruner.clone()),
            federation.peers().clone(),
            outgoing.client.clone(),
            config.max_remote,
        )
    })
}
