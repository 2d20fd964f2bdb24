//! Looks after one name: has its certificate when it is time, and what is known of it written down.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::issuer::{Advice, Failure, Order, Stage};
use super::{Shared, held, now_ms, plan};

/// An order takes no longer; what is not known then is not waited for.
const ORDER_WITHIN: Duration = Duration::from_secs(20 * 60);
/// How long DNS may take to say where a name is.
const DNS_WITHIN: Duration = Duration::from_secs(5);
/// The longest sleep: clocks are set, and machines sleep meanwhile.
const NAP: Duration = Duration::from_secs(60 * 60);
/// How long until a CA is asked again when to renew, at least and at most, and where it does not
/// say.
const ADVICE_LEAST: Duration = Duration::from_secs(60);
const ADVICE_MOST: Duration = Duration::from_secs(24 * 60 * 60);
const ADVICE_ELSE: Duration = Duration::from_secs(6 * 60 * 60);

type Stop = watch::Receiver<bool>;

/// Works until `stop`; each change of `asked` shortens our own wait after a failure.
pub(super) async fn keep(
    shared: Arc<Shared>,
    name: String,
    mut asked: watch::Receiver<()>,
    mut stop: Stop,
) {
    let mut keeper = Keeper {
        shared,
        name,
        advice: None,
        ask_at_ms: 0,
        hurry: false,
    };
    loop {
        let now = now_ms();
        if keeper.ask_at_ms <= now {
            tokio::select! {
                () = keeper.take_advice() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
        if keeper.due_ms() <= now {
            keeper.attempt(&mut stop).await;
        }
        if *stop.borrow() {
            return;
        }
        let until = keeper.due_ms().min(keeper.ask_at_ms);
        let wait = Duration::from_millis(until.saturating_sub(now_ms())).min(NAP);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = changed(&mut asked) => keeper.hurry = true,
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Never, once the sender is gone.
async fn changed(asked: &mut watch::Receiver<()>) {
    if asked.changed().await.is_err() {
        pending::<()>().await;
    }
}

struct Keeper {
    shared: Arc<Shared>,
    name: String,
    /// When the CA would have the certificate renewed.
    advice: Option<Advice>,
    /// When it is asked for that again.
    ask_at_ms: u64,
    /// Somebody wants it tried without our own wait.
    hurry: bool,
}

impl Keeper {
    /// When the next attempt is.
    fn due_ms(&self) -> u64 {
        let Some(entry) = self.shared.names.get(&self.name) else {
            return u64::MAX;
        };
        let (history, now) = (entry.history(), now_ms());
        let allowed = match self.hurry {
            true => history.allowed_ms(now),
            false => history.next_try_ms(now),
        };
        let wanted = entry.held().map_or(0, |held| {
            let leaf = held.key.cert.first();
            let jitter = leaf.map_or(0.5, |leaf| plan::jitter(leaf));
            plan::renew_ms(&held.facts, self.advice.as_ref(), jitter)
        });
        wanted.max(allowed)
    }

    /// Asks the CA when the certificate should be renewed.
    async fn take_advice(&mut self) {
        let held = self
            .shared
            .names
            .get(&self.name)
            .and_then(|entry| entry.held());
        let Some(held) = held else {
            // There is nothing to ask about before there is one.
            self.ask_at_ms = u64::MAX;
            return;
        };
        if let Some(leaf) = held.key.cert.first() {
            self.advice = self.shared.issuer.advice(leaf).await;
        }
        let again = self.advice.map_or(ADVICE_ELSE, |advice| advice.again);
        let again = again.clamp(
            ADVICE_LEAST.min(self.shared.settings.first_wait),
            ADVICE_MOST,
        );
        let again = u64::try_from(again.as_millis()).unwrap_or(u64::MAX);
        self.ask_at_ms = now_ms().saturating_add(again);
    }

    /// Orders, and takes what comes of it.
    async fn attempt(&mut self, stop: &mut Stop) {
        self.hurry = false;
        let shared = Arc::clone(&self.shared);
        let Some(entry) = shared.names.get(&self.name) else {
            return;
        };
        let kinds = plan::kinds(&shared.settings, self.is_elsewhere().await);
        let mut history = entry.history();
        let kind = history.choose(kinds);
        history.begin(kind, now_ms());
        self.write_down(history.clone()).await;
        let old = entry.held();
        let replaces = old.as_ref().and_then(|held| held.key.cert.first());
        let order = Order {
            name: &self.name,
            kind,
            challenges: &shared.challenges,
            replaces: replaces.filter(|_| self.advice.is_some()),
        };
        tracing::info!(name = %self.name, challenge = kind.word(), "ordering a certificate");
        let issued = tokio::select! {
            issued = tokio::time::timeout(ORDER_WITHIN, shared.issuer.issue(order)) => Some(issued),
            _ = stop.wait_for(|stop| *stop) => None,
        };
        let Some(issued) = issued else {
            history.undo();
            return self.write_down(history).await;
        };
        let issued = issued.unwrap_or_else(|_| Err(too_long()));
        let usable = issued.and_then(|pem| match held(&pem) {
            Ok(held) => Ok((pem, held)),
            Err(why) => Err(unusable(&why)),
        });
        match usable {
            Ok((pem, held)) => {
                let until_ms = held.facts.until_ms;
                entry.hold(held);
                history.succeed();
                self.keep_file(pem).await;
                self.ask_at_ms = 0;
                self.advice = None;
                let days = until_ms.saturating_sub(now_ms()) / 86_400_000;
                tracing::info!(name = %self.name, days, "there is a certificate");
            }
            Err(failure) => {
                let first = shared.settings.first_wait.as_millis();
                history.fail(&failure, u64::try_from(first).unwrap_or(u64::MAX), now_ms());
                let wait = history.next_try_ms(now_ms()).saturating_sub(now_ms()) / 1000;
                tracing::error!(
                    name = %self.name,
                    challenge = kind.word(),
                    served = if old.is_some() { "the old one" } else { "a self-signed one" },
                    next_try_in_s = wait,
                    "there is no new certificate: {}",
                    failure.words
                );
            }
        }
        self.write_down(history).await;
    }

    /// Whether the name is reached through somebody else's proxy, as far as DNS knows.
    async fn is_elsewhere(&self) -> bool {
        let asked = tokio::net::lookup_host((self.name.as_str(), 443));
        match tokio::time::timeout(DNS_WITHIN, asked).await {
            Ok(Ok(mut found)) => {
                let elsewhere = &self.shared.settings.elsewhere;
                found.any(|address| elsewhere.contains(address.ip()))
            }
            _ => false,
        }
    }

    async fn write_down(&self, history: plan::History) {
        if let Some(entry) = self.shared.names.get(&self.name) {
            entry.remember(history.clone());
        }
        let (shared, name) = (Arc::clone(&self.shared), self.name.clone());
        self.on_disk(move || shared.cache.save_history(&name, &history))
            .await;
    }

    async fn keep_file(&self, pem: Vec<u8>) {
        let (shared, name) = (Arc::clone(&self.shared), self.name.clone());
        self.on_disk(move || shared.cache.save(&name, &pem)).await;
    }

    async fn on_disk(&self, work: impl FnOnce() -> std::io::Result<()> + Send + 'static) {
        let done = tokio::task::spawn_blocking(work).await;
        let failed = match done {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        let dir = self.shared.settings.dir.display();
        tracing::error!(name = %self.name, %dir, "a certificate cannot be kept: {failed}");
    }
}

fn too_long() -> Failure {
    Failure {
        words: "the CA did not come to an end".to_owned(),
        stage: Stage::Before,
        retry_after: None,
    }
}

fn unusable(why: &str) -> Failure {
    Failure {
        words: format!("what the CA gave cannot be used: {why}"),
        stage: Stage::Before,
        retry_after: None,
    }
}
