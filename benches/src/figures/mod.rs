//! The figures, each with the targets it has to meet.

mod door;
mod files;
mod keys;
mod pictures;
mod process;
mod reading;
mod searching;
mod sending;
mod sliding;

use crate::Outcome;
use crate::report::Report;
use crate::world::World;

/// Something to be measured.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) run: fn(&mut World, &mut Report) -> Outcome<()>,
}

/// All figures, in an order in which one makes what the next ones read.
pub(crate) const ALL: [Figure; 23] = [
    Figure {
        name: "idle",
        what: "100 accounts, nothing to do",
        run: process::idle,
    },
    Figure {
        name: "rooms",
        what: "16 senders in 16 rooms",
        run: sending::rooms,
    },
    Figure {
        name: "crowd",
        what: "16 senders in a room of 50",
        run: sending::crowd,
    },
    Figure {
        name: "latency",
        what: "from a send to 50 long polls",
        run: sending::latency,
    },
    Figure {
        name: "paging",
        what: "paging back through the rooms",
        run: reading::paging,
    },
    Figure {
        name: "initial",
        what: "initial sync",
        run: reading::initial,
    },
    Figure {
        name: "empty",
        what: "empty incremental sync",
        run: reading::empty,
    },
    Figure {
        name: "joins",
        what: "joins into one public room",
        run: reading::joins,
    },
    Figure {
        name: "members",
        what: "/members and /state of 1,000",
        run: reading::members,
    },
    Figure {
        name: "sliding",
        what: "sliding sync: 20 rooms of 500, one change",
        run: sliding::sliding,
    },
    Figure {
        name: "search",
        what: "searching 100,000 messages",
        run: searching::search,
    },
    Figure {
        name: "keys",
        what: "one-time keys under four claimers",
        run: keys::claims,
    },
    Figure {
        name: "thumbs",
        what: "thumbnails of photos, none made before",
        run: pictures::thumbnails,
    },
    Figure {
        name: "memory",
        what: "memory after the above",
        run: process::memory,
    },
    Figure {
        name: "start",
        what: "start to first answer",
        run: process::start,
    },
    Figure {
        name: "crash",
        what: "start after kill -9 in a storm",
        run: process::crash,
    },
    Figure {
        name: "lone",
        what: "one sender who waits",
        run: sending::lone,
    },
    Figure {
        name: "door",
        what: "TLS beside nginx and caddy",
        run: door::door,
    },
    Figure {
        name: "budget",
        what: "memory under a large load",
        run: process::budget,
    },
    Figure {
        name: "files",
        what: "100 MiB up and down, beside copying",
        run: files::large,
    },
    Figure {
        name: "small",
        what: "4 KiB up and down, beside copying",
        run: files::small,
    },
    Figure {
        name: "again",
        what: "200 uploads of one file",
        run: files::again,
    },
    Figure {
        name: "huge",
        what: "memory while 1 GiB goes up and down",
        run: files::memory,
    },
];
