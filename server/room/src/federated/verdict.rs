//! What is said of an event that comes from another server, and how it comes.

use skerry_account::TxnKey;
use skerry_store::schema::room::SentBy;

/// What became of an event that came from another server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It has its place in the room.
    Accepted,
    /// The rules allow it where it stands, but not by what the room is now: nobody is shown it.
    SoftFailed(String),
    /// The rules refuse it.
    Rejected(String),
    /// It was judged before.
    Known,
    /// Something has to be fetched first.
    Missing(Missing),
    /// This server has nobody in the room, or does not know it.
    NotHere,
}

/// Ids of events that have to be fetched.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Missing {
    /// Events right before it: themselves with their past, or as a [`Gap`].
    pub prev: Vec<String>,
    /// Events that allow it or others that it rests on: to be given to
    /// [`crate::Rooms::keep_outliers`].
    pub auth: Vec<String>,
}

impl Missing {
    /// Whether nothing is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prev.is_empty() && self.auth.is_empty()
    }
}

/// An event whose own past is not here, with the state before it. That state and the event itself
/// were given to [`crate::Rooms::keep_outliers`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gap {
    /// The event's id.
    pub prev_event: String,
    /// The ids of the state events that make the state before it.
    pub state: Vec<String>,
}

/// How an event comes.
#[derive(Clone, Debug, Default)]
pub struct Arrival {
    /// States before events that come before it and whose past is not here.
    pub gaps: Vec<Gap>,
    /// The room's other servers are to get it from this one: handshakes through this server, and
    /// events of its own users that another server signed too.
    pub send_on: bool,
    /// The client call that made it.
    pub sent: Option<SentBy>,
    /// The client's transaction that it answers.
    pub txn: Option<(TxnKey, String)>,
}
