//! What goes out to other machines: the guarded client, the outbox, and who sends its queues.

use std::sync::Arc;

use skerry_account::pusher::GatewayCheck;
use skerry_account::{AccountError, Accounts};
use skerry_core::keys::SigningKey;
use skerry_core::{Clock, DiceSource};
use skerry_remote::appservice::{Bridges, Transactions};
use skerry_remote::federation::people::People;
use skerry_remote::federation::{Carry, Federation, FederationOptions, Internet, PolicyDesk};
use skerry_remote::http::{Client, ClientOptions, Guard, Resolve, SystemResolver, Tls, Transport};
use skerry_remote::identity::Identity;
use skerry_remote::mail::{MailOptions, Mailer};
use skerry_remote::outbox::{Deliver, Outbox};
use skerry_remote::push::{HeldPushes, PushFollower, Pushes, VapidKey};
use skerry_room::Rooms;

use crate::StartError;
use crate::config::Config;

/// What goes out to other machines.
#[derive(Clone)]
pub struct Outgoing {
    /// For URLs that people name: reaches no private network unless the configuration says so.
    pub client: Client,
    /// For links to be previewed, which everybody can name: has exceptions of its own.
    pub previews: Option<Client>,
    /// Talks with other servers.
    pub federation: Federation,
    /// People and their devices across servers.
    pub people: People,
    /// Empties the queues.
    pub outbox: Outbox,
    /// Asks application services.
    pub bridges: Bridges,
    /// Asks identity servers.
    pub identity: Identity,
    /// Whom clients tell their push services to expect.
    pub vapid: VapidKey,
    /// Turns events into notifications; for one worker.
    pub(crate) push: PushFollower,
}

/// What outgoing requests are made from; read before the accounts are there.
pub(crate) struct Parts {
    guard: Guard,
    client: Client,
    previews: Option<Client>,
    carry: Arc<dyn Carry>,
    vapid: VapidKey,
    mail: Option<MailOptions>,
}

/// What is put together from elsewhere.
pub(crate) struct Around<'a> {
    pub(crate) config: &'a Config,
    pub(crate) accounts: &'a Accounts,
    pub(crate) rooms: &'a Rooms,
    pub(crate) key: Arc<SigningKey>,
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) dice: &'a Arc<dyn DiceSource>,
    pub(crate) desk: Option<Arc<PolicyDesk>>,
}

impl Parts {
    /// Reads what the configuration says about outgoing requests. Other servers are reached by
    /// `carry`, where there is one.
    pub(crate) fn new(
        config: &Config,
        vapid: &[u8; 32],
        carry: Option<Arc<dyn Carry>>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Parts, StartError> {
        let failed = |error: &dyn std::fmt::Display| StartError::Outgoing(error.to_string());
        let http = &config.http_client;
        let guard = Guard::new(http.allow_private, &http.allowed_private);
        let guard = guard.map_err(|error| failed(&error))?;
        let tls = Arc::new(Tls::new(http.ca_file.as_deref()).map_err(|error| failed(&error))?);
        let resolver = Arc::new(SystemResolver::new());
        let previews = config.url_preview.as_ref().map(|previews| {
            let guard = previews.guard.clone();
            let resolver = Arc::clone(&resolver);
            Client::new(ClientOptions::new(guard, resolver, Arc::clone(&tls)))
        });
        let carry = match carry {
            Some(carry) => carry,
            None => internet(config, &resolver, clock)?,
        };
        let options = ClientOptions::new(guard.clone(), resolver, tls);
        let vapid = VapidKey::new(vapid, &config.base_url).map_err(|error| failed(&error))?;
        Ok(Parts {
            guard,
            client: Client::new(options),
            previews,
            carry,
            vapid,
            mail: config.mail.clone(),
        })
    }

    /// What reaches other machines.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Says of a host whether push gateways on it need no TLS.
    pub(crate) fn plain_gateway(&self) -> GatewayCheck {
        let guard = self.guard.clone();
        Arc::new(move |host| guard.names(host))
    }

    /// Puts it together. Nothing goes out before the workers run.
    ///
    /// # Errors
    /// Where mail cannot be set up.
    pub(crate) fn outgoing(self, around: Around<'_>) -> Result<Outgoing, StartError> {
        let Around {
            config,
            accounts,
            rooms,
            key,
            clock,
            dice,
            desk,
        } = around;
        let federation = Federation::new(FederationOptions {
            own_name: Arc::clone(&config.server_name),
            key: Arc::clone(&key),
            rooms: rooms.clone(),
            carry: self.carry,
            policy: config.federation.policy.clone(),
            trusted: config.federation.trusted_key_servers.clone(),
            old_keys: config.federation.old_keys.clone(),
            revoked: config.federation.revoked.clone(),
            desk,
            clock: Arc::clone(clock),
            dice: Arc::clone(dice),
        })
        .map_err(AccountError::from)?;
        let people = People::over(&federation, accounts.clone(), config.federation.presence)
            .map_err(AccountError::from)?;
        let transport: Arc<dyn Transport> = Arc::new(self.client.clone());
        let transactions = Transactions::new(
            accounts.clone(),
            rooms.clone(),
            Arc::clone(&transport),
            Arc::clone(clock),
        );
        let pushes = Pushes::new(
            accounts.clone(),
            rooms.clone(),
            Arc::clone(&transport),
            self.vapid.clone(),
            Arc::clone(clock),
        );
        let held = HeldPushes::new(rooms.clone(), Arc::clone(clock));
        let push = PushFollower::new(accounts.clone(), rooms.clone(), Arc::clone(clock));
        let mut delivers: Vec<Arc<dyn Deliver>> =
            vec![Arc::new(transactions), Arc::new(held), Arc::new(pushes)];
        if let Some(mail) = self.mail {
            let mailer = Mailer::new(mail, accounts.clone(), Arc::clone(clock));
            delivers.push(Arc::new(
                mailer.map_err(|error| StartError::Mail(error.to_string()))?,
            ));
        }
        let identity = Identity::new(
            Arc::clone(&transport),
            accounts.clone(),
            federation.clone(),
            key,
        );
        let store = Arc::clone(accounts.store());
        let outbox = Outbox::new(store, Arc::clone(clock), Arc::clone(dice), delivers);
        let bridges = Bridges::new(
            accounts.clone(),
            rooms.clone(),
            transport,
            outbox.clone(),
            Arc::clone(clock),
        );
        Ok(Outgoing {
            client: self.client,
            previews: self.previews,
            federation,
            people,
            outbox,
            bridges,
            identity,
            vapid: self.vapid,
            push: push.map_err(AccountError::from)?,
        })
    }
}

/// The way to other servers: with addresses and certificates of its own to trust.
fn internet(
    config: &Config,
    resolver: &Arc<SystemResolver>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Carry>, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::Federation(error.to_string());
    let federation = &config.federation;
    let guard = Guard::new(federation.allow_private, &[]).map_err(|error| failed(&error))?;
    let tls = Tls::new(federation.ca_file.as_deref()).map_err(|error| failed(&error))?;
    let resolver: Arc<dyn Resolve> = Arc::<SystemResolver>::clone(resolver);
    let options = ClientOptions::new(guard, Arc::clone(&resolver), Arc::new(tls));
    let internet = Internet::new(Client::new(options), resolver, Arc::clone(clock));
    Ok(Arc::new(internet))
}
