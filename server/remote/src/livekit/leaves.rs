//! Members of calls who are gone: their delayed leave event, which they handed over, is restarted
//! while LiveKit knows them to be connected, and sent when it does not any more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use skerry_core::Clock;
use skerry_room::{DelayedAction, Delegated, RoomError, Rooms};

use super::LiveKit;

/// How often LiveKit is asked.
const EVERY: Duration = Duration::from_secs(15);
/// A member who is away for so long has left, in ms: connections break and come back.
const GONE_MS: u64 = 20_000;
/// For how long a member is waited for who was never seen, in ms.
const WAIT_MS: u64 = 300_000;

/// Looks after the leave events that were handed over.
pub struct Leaves {
    livekit: LiveKit,
    rooms: Rooms,
    clock: Arc<dyn Clock>,
    /// Since when who is away, in ms since the epoch, by delayed event.
    away: HashMap<String, u64>,
}

impl Leaves {
    /// With this LiveKit server and these rooms.
    #[must_use]
    pub fn new(livekit: LiveKit, rooms: Rooms, clock: Arc<dyn Clock>) -> Leaves {
        Leaves {
            livekit,
            rooms,
            clock,
            away: HashMap::new(),
        }
    }

    /// Looks again and again, for ever. To be spawned once.
    pub async fn run(mut self) {
        loop {
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "who is connected to calls was not looked at");
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Looks once at everybody.
    ///
    /// # Errors
    /// Those of the rooms.
    pub async fn look(&mut self) -> Result<(), RoomError> {
        let all = self.rooms.delegated().await?;
        self.away
            .retain(|id, _| all.iter().any(|one| one.what.delay_id == *id));
        for one in all {
            // A refusal says that it is over meanwhile, or not to be sent: its time comes anyway.
            if let Err(RoomError::Store(error)) = self.look_at(&one).await {
                return Err(error.into());
            }
        }
        Ok(())
    }

    async fn look_at(&mut self, one: &Delegated) -> Result<(), RoomError> {
        let (id, now_ms) = (&one.what.delay_id, self.clock.now_ms());
        let seen = self
            .livekit
            .is_connected(&one.what.room, &one.what.identity);
        let seen = match seen.await {
            Ok(seen) => seen,
            Err(error) => {
                tracing::debug!(%error, "LiveKit does not say who is connected");
                return Ok(());
            }
        };
        if seen {
            self.away.remove(id);
            if !one.connected {
                self.rooms.settle_delegated(id, true).await?;
            }
            if one.due_ms < now_ms.saturating_add(one.delay_ms / 2) {
                self.rooms
                    .update_delayed(id, DelayedAction::Restart)
                    .await?;
            }
            return Ok(());
        }
        if !one.connected {
            if one.since_ms.saturating_add(WAIT_MS) < now_ms {
                self.rooms.settle_delegated(id, false).await?;
            }
            return Ok(());
        }
        let since_ms = *self.away.entry(id.clone()).or_insert(now_ms);
        if since_ms.saturating_add(GONE_MS) <= now_ms {
            self.rooms.update_delayed(id, DelayedAction::Send).await?;
        }
        Ok(())
    }
}
