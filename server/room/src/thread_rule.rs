//! Threads do not branch (client-server API, "Threading").

use skerry_core::canonical::Object;

use crate::RoomError;
use crate::change::Change;
use crate::draft::Draft;

impl Change<'_> {
    /// A thread begins at an event that is not itself in a thread, nor otherwise about another
    /// event. A root that is not known here is let pass: its event may come yet.
    pub(crate) fn vet_thread(&self, draft: &Draft) -> Result<(), RoomError> {
        let Some(("m.thread", root)) = relation(&draft.content) else {
            return Ok(());
        };
        let Some(root) = self.rooms.event_by_id(&self.snap, root)? else {
            return Ok(());
        };
        let content = root.event.content_object().unwrap_or_default();
        if relation(&content).is_some() {
            let text = "A thread cannot begin at an event that is about another one";
            return Err(RoomError::ThreadOnRelation(text.into()));
        }
        Ok(())
    }
}

/// Type and target of the relation that a content says. A reply is none.
fn relation(content: &Object) -> Option<(&str, &str)> {
    let relates = content.object("m.relates_to")?;
    Some((relates.str("rel_type")?, relates.str("event_id")?))
}
