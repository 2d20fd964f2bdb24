//! Transactions: what waits for an application service, sent in order, at least once, each time
//! with the same number and body.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use skerry_account::appservice::Appservice;
use skerry_account::appservice::sending::{self, Transaction};
use skerry_core::{Clock, Pos, UserNid};
use skerry_room::{Item, Rooms};
use skerry_store::outbox::Dest;
use skerry_store::{StoreError, blocking};

use super::render::Body;
use super::{escape, signed};
use crate::http::{Request, Transport};
use crate::outbox::{Backoff, Deliver, Next, Report, Row};

/// Items of one transaction at most.
const ITEMS_MAX: usize = 100;
/// Bytes of one transaction at which no further item is added; one item may go beyond it.
const BODY_BYTES: usize = 4 << 20;
/// How many items are kept for an application service that cannot be reached.
const QUEUE_MAX: usize = 1_000_000;
/// How long an application service may take over a transaction.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How the pauses grow while it cannot be reached.
const BACKOFF: Backoff = Backoff {
    first_ms: 1_000,
    longest_ms: 5 * 60_000,
};

/// Sends the queues of application services.
pub struct Transactions {
    rooms: Rooms,
    accounts: skerry_account::Accounts,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
}

impl Transactions {
    /// Sends by this transport.
    #[must_use]
    pub fn new(
        accounts: skerry_account::Accounts,
        rooms: Rooms,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> Transactions {
        Transactions {
            rooms,
            accounts,
            transport,
            clock,
        }
    }

    async fn send_rows(&self, id: &str, rows: &[Row]) -> Result<Report, StoreError> {
        let known = self.accounts.appservices();
        let Some(one) = known.get(id).filter(|one| one.listens()) else {
            return Ok(Report::give_up("it is not registered to be sent anything"));
        };
        let Some(transaction) = self.transaction(one, rows).await? else {
            // Nothing is left of what was to be told.
            return Ok(Report::done(rows));
        };
        if let Err(why) = self.put(one, &transaction).await {
            return Ok(Report::failed(why));
        }
        self.arrived(one, rows, &transaction).await
    }

    /// The transaction that is on its way already, else a new one of the oldest items, which is
    /// durable before it is sent.
    async fn transaction(
        &self,
        one: &Arc<Appservice>,
        rows: &[Row],
    ) -> Result<Option<Transaction>, StoreError> {
        let (rooms, one, rows) = (self.rooms.clone(), one.clone(), rows.to_vec());
        let now_ms = self.clock.now_ms();
        blocking(move || {
            let store = rooms.store();
            let snap = store.newest();
            let (waiting, number) = sending::on_its_way(&snap, &one.id)?;
            let first = rows.first().map_or(Pos::ZERO, |row| row.pos);
            if let Some(waiting) = waiting.filter(|waiting| waiting.upto >= first) {
                return Ok(Some(waiting));
            }
            let mut body = Body::new(&one, now_ms);
            let mut upto = first;
            for row in &rows {
                if let Some(item) = Item::decode(&row.item) {
                    body.add(&rooms, &snap, item)?;
                }
                upto = row.pos;
                if body.len() >= BODY_BYTES {
                    break;
                }
            }
            if body.is_empty() {
                return Ok(None);
            }
            let transaction = Transaction {
                // A number that was not used before, also where the data was lost since.
                number: now_ms.max(number + 1),
                upto,
                body: body.finish(&rooms, &snap)?,
            };
            let mut w = store.write();
            sending::put(&mut w, &one.id, &transaction);
            let applied = store.commit(w)?;
            store.wait_durable(&applied)?;
            Ok(Some(transaction))
        })
        .await?
    }

    /// Sends a transaction; the reason if it has not arrived.
    async fn put(&self, one: &Appservice, transaction: &Transaction) -> Result<(), String> {
        let url = one.registration.url.as_deref().unwrap_or_default();
        let number = transaction.number;
        let send = async |url: String| {
            let request = Request::put(&url)
                .header("content-type", "application/json")
                .body(Bytes::from(transaction.body.clone()))
                .timeout(TIMEOUT);
            let answer = self.transport.send(signed(one, request)).await;
            answer
                .map(|answer| answer.status)
                .map_err(|e| e.to_string())
        };
        let mut status = send(format!("{url}{}/transactions/{number}", super::PREFIX)).await?;
        if [404, 405].contains(&status.as_u16()) {
            // As it was before there were versions ("Legacy routes").
            let token = escape(&one.registration.hs_token);
            status = send(format!("{url}/transactions/{number}?access_token={token}")).await?;
        }
        if status.is_success() {
            return Ok(());
        }
        Err(format!("it answered {status}"))
    }

    /// What is to be written once a transaction has arrived.
    async fn arrived(
        &self,
        one: &Arc<Appservice>,
        rows: &[Row],
        transaction: &Transaction,
    ) -> Result<Report, StoreError> {
        let upto = transaction.upto;
        let sent = rows.iter().filter(|row| row.pos <= upto);
        let done: Vec<Pos> = sent.clone().map(|row| row.pos).collect();
        let items: Vec<Item> = sent.filter_map(|row| Item::decode(&row.item)).collect();
        let (accounts, one) = (self.accounts.clone(), one.clone());
        let write = blocking(move || {
            let store = accounts.store();
            let snap = store.newest();
            let mut w = store.write();
            sending::put_arrived(&mut w, &snap, &one.id)?;
            if one.registration.crypto {
                acknowledge(&accounts, &one, &items)?;
            }
            Ok::<_, StoreError>(w)
        })
        .await??;
        Ok(Report {
            done,
            bad: Vec::new(),
            write: Some(write),
            next: Next::Go,
        })
    }
}

/// An application service that wants all that encryption needs does not sync: what it has got,
/// its devices have got.
fn acknowledge(
    accounts: &skerry_account::Accounts,
    one: &Appservice,
    items: &[Item],
) -> Result<(), StoreError> {
    for item in items {
        let Item::ToDevice(user, device, pos) = item else {
            continue;
        };
        let user = UserNid(*user);
        if one.has_user_alone(&accounts.store().user_id(user)?) {
            accounts.keys().acknowledge(user, device, Pos(*pos))?;
        }
    }
    Ok(())
}

impl Deliver for Transactions {
    fn serves(&self, dest: &Dest) -> bool {
        matches!(dest, Dest::Appservice(_))
    }

    fn batch_rows(&self) -> usize {
        ITEMS_MAX
    }

    fn max_rows(&self) -> usize {
        QUEUE_MAX
    }

    fn backoff(&self) -> Backoff {
        BACKOFF
    }

    fn deliver<'a>(&'a self, dest: &'a Dest, rows: &'a [Row]) -> BoxFuture<'a, Report> {
        Box::pin(async move {
            let Dest::Appservice(id) = dest else {
                return Report::failed("not an application service");
            };
            let sent = self.send_rows(id, rows).await;
            sent.unwrap_or_else(Report::failed)
        })
    }
}
