//! Certificates by the `instant-acme` crate, which speaks ACME and keeps no time of its own.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error,
    ExternalAccountKey, Identifier, KeyAuthorization, NewAccount, NewOrder, OrderStatus, Problem,
    RetryPolicy,
};
use rustls::ClientConfig;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, Der};
use tokio::sync::Mutex;

use super::cache::Cache;
use super::challenges::Shown;
use super::hook::Record;
use super::issuer::{Advice, Answer, Failure, Issuer, Order, Stage};
use super::plan::{Kind, limited_ms};
use super::web::{Told, Web};
use super::{AcmeSettings, Eab};
use crate::tls::facts::identity;

/// How long a CA may take to look whether a name is ours, and to sign.
const PATIENCE: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));
/// How long its own words are taken from it, in signs.
const WORDS_MAX: usize = 500;

/// One CA.
pub(super) struct Ca {
    settings: AcmeSettings,
    cache: Cache,
    tls: Arc<ClientConfig>,
    /// Two names do not make two accounts.
    account: Mutex<()>,
}

/// What is at fault, and how far it came.
struct Stopped {
    error: Error,
    stage: Stage,
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Stopped {
        Stopped {
            error,
            stage: Stage::Before,
        }
    }
}

fn said(words: String) -> Error {
    Error::Other(words.into())
}

impl Issuer for Ca {
    fn issue<'a>(&'a self, order: Order<'a>) -> Answer<'a, Result<Vec<u8>, Failure>> {
        Box::pin(async move {
            let told = Told::default();
            let issued = self.order(order, &told).await;
            issued.map_err(|stopped| self.failure(stopped, &told))
        })
    }

    fn advice<'a>(&'a self, certificate: &'a CertificateDer<'a>) -> Answer<'a, Option<Advice>> {
        Box::pin(async move {
            let id = identifier(certificate)?;
            let account = self.account(&Told::default()).await.ok()?;
            let (info, again) = account.renewal_info(&id).await.ok()?;
            let window = info.suggested_window;
            let millis = |at: i64| u64::try_from(at).ok()?.checked_mul(1000);
            Some(Advice {
                from_ms: millis(window.start.unix_timestamp())?,
                to_ms: millis(window.end.unix_timestamp())?,
                again,
            })
        })
    }
}

impl Ca {
    pub(super) fn new(settings: AcmeSettings, cache: Cache, tls: Arc<ClientConfig>) -> Ca {
        let mut config = (*tls).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ca {
            settings,
            cache,
            tls: Arc::new(config),
            account: Mutex::new(()),
        }
    }

    /// The account of before, or a new one.
    async fn account(&self, told: &Told) -> Result<Account, Error> {
        let _alone = self.account.lock().await;
        let web = Box::new(Web::new(Arc::clone(&self.tls), Arc::clone(told)));
        let builder = Account::builder_with_http(web);
        let kept = self.cache.account().map_err(|e| said(e.to_string()))?;
        if let Some(kept) = kept {
            match serde_json::from_slice::<AccountCredentials>(&kept) {
                Ok(credentials) => return builder.from_credentials(credentials).await,
                Err(error) => tracing::warn!(%error, "the ACME account cannot be read"),
            }
        }
        let contact = format!("mailto:{}", self.settings.email);
        let contacts = [contact.as_str()];
        let wanted = NewAccount {
            contact: if self.settings.email.is_empty() {
                &[]
            } else {
                &contacts
            },
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let elsewhere = self.settings.eab.as_ref().map(external).transpose()?;
        let directory = self.settings.directory.clone();
        let (account, credentials) = builder
            .create(&wanted, directory, elsewhere.as_ref())
            .await?;
        let credentials = serde_json::to_vec(&credentials)?;
        self.cache
            .save_account(&credentials)
            .map_err(|e| said(format!("the account cannot be kept: {e}")))?;
        Ok(account)
    }

    async fn order(&self, order: Order<'_>, told: &Told) -> Result<Vec<u8>, Stopped> {
        let account = self.account(told).await?;
        let names = [Identifier::Dns(order.name.to_owned())];
        let mut ordered = self.ordered(&account, &names, &order).await?;
        let answered = self.answer(&mut ordered, order).await;
        let shown = answered?;
        let ready = ordered.poll_ready(&PATIENCE).await;
        shown.take_away().await;
        match ready {
            Ok(OrderStatus::Ready) => {}
            Ok(_) => {
                return Err(Stopped {
                    error: why_invalid(&mut ordered).await,
                    stage: Stage::Validation,
                });
            }
            Err(error) => {
                return Err(Stopped {
                    error,
                    stage: Stage::Validation,
                });
            }
        }
        let key = ordered.finalize().await?;
        let chain = ordered.poll_certificate(&PATIENCE).await?;
        Ok(format!("{}\n{key}", chain.trim_end()).into_bytes())
    }

    /// Orders, as a replacement where the CA takes it as one.
    async fn ordered(
        &self,
        account: &Account,
        names: &[Identifier],
        order: &Order<'_>,
    ) -> Result<instant_acme::Order, Error> {
        if let Some(id) = order.replaces.and_then(identifier) {
            match account.new_order(&NewOrder::new(names).replaces(id)).await {
                // It may have been replaced already, or be unknown there.
                Err(error) => {
                    tracing::debug!(%error, name = order.name, "not taken as a replacement");
                }
                ordered => return ordered,
            }
        }
        account.new_order(&NewOrder::new(names)).await
    }

    /// Puts where the CA looks what it wants to see, and has it look.
    async fn answer(
        &self,
        ordered: &mut instant_acme::Order,
        order: Order<'_>,
    ) -> Result<Proofs, Stopped> {
        let mut proofs = Proofs::default();
        let done = self.answer_all(ordered, order, &mut proofs).await;
        if let Err(stopped) = done {
            proofs.take_away().await;
            return Err(stopped);
        }
        Ok(proofs)
    }

    async fn answer_all(
        &self,
        ordered: &mut instant_acme::Order,
        order: Order<'_>,
        proofs: &mut Proofs,
    ) -> Result<(), Stopped> {
        let wanted = match order.kind {
            Kind::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Kind::Http01 => ChallengeType::Http01,
            Kind::Dns01 => ChallengeType::Dns01,
        };
        let mut authorizations = ordered.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            // It may know from before that the name is ours.
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let Some(mut challenge) = authorization.challenge(wanted.clone()) else {
                return Err(Stopped {
                    error: said(format!("the CA offers no {}", order.kind.word())),
                    stage: Stage::NotOffered,
                });
            };
            let answer = challenge.key_authorization();
            proofs
                .show(&self.settings, order, &challenge.token, &answer)
                .await?;
            challenge.set_ready().await?;
        }
        Ok(())
    }

    fn failure(&self, stopped: Stopped, told: &Told) -> Failure {
        let Stopped { error, stage } = stopped;
        let mut retry_after = *told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Error::Api(problem) = &error {
            let kind = problem.r#type.as_deref().unwrap_or("");
            if kind.ends_with(":rateLimited") {
                retry_after = retry_after.or(Some(Duration::from_millis(limited_ms())));
            }
            if kind.ends_with(":accountDoesNotExist")
                && let Err(error) = self.cache.forget_account()
            {
                tracing::warn!(%error, "the ACME account that is no more cannot be taken away");
            }
        }
        Failure {
            words: words(&error),
            stage,
            retry_after,
        }
    }
}

/// What a CA may find at the moment.
#[derive(Default)]
struct Proofs {
    tokens: Vec<Shown<String>>,
    certificates: Vec<Shown<Arc<CertifiedKey>>>,
    records: Vec<Record>,
}

impl Proofs {
    async fn show(
        &mut self,
        settings: &AcmeSettings,
        order: Order<'_>,
        token: &str,
        answer: &KeyAuthorization,
    ) -> Result<(), Error> {
        match order.kind {
            Kind::Http01 => {
                let shown = order.challenges.show_token(token, answer.as_str());
                self.tokens.push(shown);
            }
            Kind::TlsAlpn01 => {
                let digest = answer.digest();
                let shown = order
                    .challenges
                    .show_certificate(order.name, digest.as_ref());
                self.certificates.push(shown.map_err(said)?);
            }
            Kind::Dns01 => {
                let hook = settings.dns_hook.as_deref();
                let hook = hook.ok_or_else(|| said("dns-01 needs acme.dns_hook".to_owned()))?;
                let record = Record::publish(hook, order.name, &answer.dns_value()).await;
                self.records.push(record.map_err(said)?);
            }
        }
        Ok(())
    }

    async fn take_away(self) {
        for record in self.records {
            record.withdraw().await;
        }
    }
}

/// By what the CA knows a certificate.
fn identifier(certificate: &CertificateDer<'_>) -> Option<CertificateIdentifier<'static>> {
    let (key, serial) = identity(certificate)?;
    let id = CertificateIdentifier::new(Der::from_slice(key), Der::from_slice(serial));
    Some(id.into_owned())
}

fn external(eab: &Eab) -> Result<ExternalAccountKey, Error> {
    let file = eab.hmac_key_file.display();
    let text = std::fs::read_to_string(&eab.hmac_key_file)
        .map_err(|e| said(format!("acme.eab.hmac_key_file {file}: {e}")))?;
    let text = text.trim();
    let key = URL_SAFE_NO_PAD
        .decode(text)
        .or_else(|_| URL_SAFE.decode(text));
    let key = key.map_err(|e| said(format!("acme.eab.hmac_key_file {file}: {e}")))?;
    Ok(ExternalAccountKey::new(eab.key_id.clone(), &key))
}

/// Why the CA did not find what it looked for.
async fn why_invalid(ordered: &mut instant_acme::Order) -> Error {
    let mut authorizations = ordered.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else {
            continue;
        };
        let Ok(state) = authorization.refresh().await else {
            continue;
        };
        let found = state.challenges.iter().find_map(|one| one.error.clone());
        if let Some(problem) = found {
            return Error::Api(problem);
        }
    }
    said("the CA refuses the order and does not say why".to_owned())
}

/// What went wrong; in the CA's own words where it said any.
fn words(error: &Error) -> String {
    let text = match error {
        Error::Api(problem) => problem_words(problem),
        Error::Timeout(_) => "the CA did not come to an end in time".to_owned(),
        other => other.to_string(),
    };
    let text = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    text.take(WORDS_MAX).collect()
}

fn problem_words(problem: &Problem) -> String {
    let kind = problem.r#type.as_deref().unwrap_or("");
    let kind = kind.rsplit(':').next().unwrap_or("");
    let mut text = problem.detail.clone().unwrap_or_default();
    for part in &problem.subproblems {
        text.push_str(&format!("; {part}"));
    }
    match (text.is_empty(), kind) {
        (true, "") => "the CA refuses and does not say why".to_owned(),
        (true, kind) => kind.to_owned(),
        (false, "") => text,
        (false, kind) => format!("{text} ({kind})"),
    }
}
