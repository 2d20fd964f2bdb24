//! Whose data this is.

use skerry_core::ServerNid;

use crate::schema::store::Facts;
use crate::{Store, StoreError};

/// Row of [`Facts`]: the number of the server's name.
const OWNER: &str = "server_name";

impl Store {
    /// The server name that this data is of: the one given, where nobody has said so before. It
    /// is part of every id in the data, so nothing works under another one.
    ///
    /// Blocks until the name is on the disk; to be called once, before anything else is written.
    ///
    /// # Errors
    /// As [`Store::commit`] and [`Store::wait_durable`].
    pub fn owner(&self, server_name: &str) -> Result<String, StoreError> {
        let key = OWNER.to_owned();
        if let Some(number) = self.newest().get::<Facts>(&key)? {
            return Ok(self.server_name(ServerNid(number))?.to_string());
        }
        let mut w = self.write();
        w.put::<Facts>(&key, &self.intern_server(server_name)?.0);
        let applied = self.commit(w)?;
        self.wait_durable(&applied)?;
        Ok(server_name.to_owned())
    }
}
