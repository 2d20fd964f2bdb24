//! What mails say. Plain text: it is read everywhere, and what a link leads to is seen.

use skerry_account::address::Purpose;
use skerry_account::validation::{Letter, LetterKind};

use super::MailOptions;

/// The path of the page that a link leads to, below the address of the server.
pub const LINK_PATH: &str = "/_matrix/client/unstable/org.skerry/email/confirm";

/// Subject and body.
pub(super) fn of(letter: &Letter, options: &MailOptions) -> (String, String) {
    let server = &options.server_name;
    match &letter.about {
        LetterKind::Link {
            purpose,
            sid,
            token,
        } => {
            let link = format!("{}{LINK_PATH}?sid={sid}&token={token}", options.base_url);
            let (subject, what) = match purpose {
                Purpose::Register => (
                    format!("Your new account on {server}"),
                    format!(
                        "Somebody, hopefully you, is making an account on {server} with this \
                         e-mail address. If it is you, open this link:"
                    ),
                ),
                Purpose::Password => (
                    format!("A new password for {server}"),
                    format!(
                        "Somebody, hopefully you, wants to set a new password for the account on \
                         {server} that has this e-mail address. If it is you, open this link, \
                         and confirm it there:"
                    ),
                ),
                Purpose::Add => (
                    format!("Your e-mail address on {server}"),
                    format!(
                        "Somebody, hopefully you, wants to add this e-mail address to their \
                         account on {server}. If it is you, open this link:"
                    ),
                ),
            };
            let body = format!(
                "{what}\n\n{link}\n\nAfter that, go back to where you came from.\n\nIf it was \
                 not you, there is nothing to do: without the link nothing happens. It is good \
                 for a day.\n"
            );
            (subject, body)
        }
        LetterKind::Taken(user_id) => (
            format!("Your e-mail address on {server}"),
            format!(
                "Somebody, perhaps you, wanted to use this e-mail address on {server}. It \
                 belongs to the account {user_id} already, so nothing was changed.\n\nIf it was \
                 you: log in with that account. If you do not know its password any more, choose \
                 \"Forgotten password\" where you log in.\n"
            ),
        ),
    }
}
