//! What the figures share: a running server, users, rooms.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::Outcome;
use crate::http::Conn;
use crate::server::Server;

/// A registered user.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) token: String,
    pub(crate) device: String,
}

/// The server and who is on it. What a figure needs and nobody made yet is made when asked for.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) program: PathBuf,
    pub(crate) dir: PathBuf,
    quick: bool,
    pub(crate) server: Server,
    users: Vec<User>,
    /// Rooms of one sender each, from the first users on.
    rooms: Vec<String>,
    /// Messages in each of those rooms.
    pub(crate) in_each: usize,
    crowd: Option<String>,
}

/// 200 bytes of text.
pub(crate) const TEXT: &str = "The quick brown fox jumps over the lazy dog, and the lazy dog \
    looks after it for a while, thinking of the days when foxes knew their place and dogs were \
    allowed to sleep in the sun until it was time.";

impl World {
    /// Starts a server.
    pub(crate) fn new(program: &Path, dir: &Path, quick: bool) -> Outcome<Self> {
        let program = program
            .canonicalize()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let mut server = Server::new(&program, dir)?;
        server.start()?;
        Ok(Self {
            program,
            dir: dir.to_owned(),
            quick,
            server,
            users: Vec::new(),
            rooms: Vec::new(),
            in_each: 0,
            crowd: None,
        })
    }

    /// A world of its own, for a figure that must not see what others left.
    pub(crate) fn fresh(&self) -> Outcome<Self> {
        Self::new(&self.program, &self.dir, self.quick)
    }

    /// A folder on the disk that is measured, which goes when it is dropped.
    pub(crate) fn folder(&self) -> Outcome<tempfile::TempDir> {
        Ok(tempfile::tempdir_in(&self.dir)?)
    }

    /// A number of repetitions: a tenth of it in a quick run.
    pub(crate) fn times(&self, n: usize) -> usize {
        if self.quick { (n / 10).max(1) } else { n }
    }

    /// A connection of a user.
    pub(crate) fn conn(&self, user: &User) -> Conn {
        Conn::new(&self.server.addr, &user.token)
    }

    /// The first `n` users.
    pub(crate) fn users(&mut self, n: usize) -> Outcome<Vec<User>> {
        let mut conn = Conn::new(&self.server.addr, "");
        while self.users.len() < n {
            let name = format!("user{}", self.users.len());
            let body = json!({
                "username": name, "password": "a long password", "device_id": "BENCH",
                "auth": { "type": "m.login.dummy" },
            });
            let path = "/_matrix/client/v3/register";
            let answer = conn.json("POST", path, &body.to_string())?;
            self.users.push(User {
                id: text(&answer, "user_id")?,
                token: text(&answer, "access_token")?,
                device: text(&answer, "device_id")?,
            });
        }
        Ok(self.users.get(..n).unwrap_or_default().to_vec())
    }

    /// A public room that `user` makes.
    pub(crate) fn room(&self, user: &User) -> Outcome<String> {
        let body = json!({ "preset": "public_chat" }).to_string();
        let answer = self
            .conn(user)
            .json("POST", "/_matrix/client/v3/createRoom", &body)?;
        text(&answer, "room_id")
    }

    /// Lets a user join a room.
    pub(crate) fn join(&self, user: &User, room: &str) -> Outcome<()> {
        join(&mut self.conn(user), room)
    }

    /// Sixteen rooms of one user each.
    pub(crate) fn sixteen(&mut self) -> Outcome<Vec<(User, String)>> {
        let users = self.users(16)?;
        while let Some(user) = users.get(self.rooms.len()) {
            let room = self.room(user)?;
            self.rooms.push(room);
        }
        Ok(users.into_iter().zip(self.rooms.iter().cloned()).collect())
    }

    /// The sixteen rooms, with at least `n` messages in each.
    pub(crate) fn filled(&mut self, n: usize) -> Outcome<Vec<(User, String)>> {
        let pairs = self.sixteen()?;
        if self.in_each < n {
            let missing = n - self.in_each;
            send_all(&self.server.addr, &pairs, missing, "fill")?;
            self.in_each = n;
        }
        Ok(pairs)
    }

    /// A room of fifty: all its members, and its id.
    pub(crate) fn crowd(&mut self) -> Outcome<(Vec<User>, String)> {
        let users = self.users(50)?;
        if let Some(room) = &self.crowd {
            return Ok((users, room.clone()));
        }
        let room = self.room(users.first().ok_or("no users")?)?;
        for user in users.iter().skip(1) {
            self.join(user, &room)?;
        }
        self.crowd = Some(room.clone());
        Ok((users, room))
    }
}

/// Lets the user of a connection join a room.
pub(crate) fn join(conn: &mut Conn, room: &str) -> Outcome<()> {
    let path = format!("/_matrix/client/v3/join/{}", escape(room));
    conn.good("POST", &path, "{}").map(drop)
}

/// Sends one message.
pub(crate) fn send(conn: &mut Conn, room: &str, txn: &str, body: &str) -> Outcome<()> {
    let room = escape(room);
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{txn}");
    let body = format!("{{\"msgtype\":\"m.text\",\"body\":\"{body}\"}}");
    conn.good("PUT", &path, &body).map(drop)
}

/// Every user sends `n` messages to the room beside them, all at the same time.
pub(crate) fn send_all(addr: &str, pairs: &[(User, String)], n: usize, run: &str) -> Outcome<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = pairs
            .iter()
            .map(|(user, room)| {
                scope.spawn(move || -> Outcome<()> {
                    let mut conn = Conn::new(addr, &user.token);
                    for i in 0..n {
                        send(&mut conn, room, &format!("{run}{i}"), TEXT)?;
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| "a sender panicked")??;
        }
        Ok(())
    })
}

/// A string of an answer.
pub(crate) fn text(answer: &Value, name: &str) -> Outcome<String> {
    let text = answer.get(name).and_then(Value::as_str);
    Ok(text
        .ok_or_else(|| format!("no {name} in {answer}"))?
        .to_owned())
}

/// An id as a part of a path.
pub(crate) fn escape(id: &str) -> String {
    id.replace('%', "%25")
        .replace('!', "%21")
        .replace('#', "%23")
        .replace('/', "%2F")
}
