//! The one list of options: what each means. The example file is made of it.

use std::fmt::Write;

use toml::{Table, Value};

use super::raw::RawConfig;

/// An option, as the documentation shows it.
pub struct Doc {
    /// Section and key with dots, such as `registration.open`.
    pub key: &'static str,
    /// What it means, one or more lines.
    pub doc: &'static str,
}

const fn used(key: &'static str, doc: &'static str) -> Doc {
    Doc { key, doc }
}

/// All options, in the order of the example file.
pub const DOCS: &[Doc] = &[
    used(
        "server_name",
        "The part after the colon in @user:server. It is part of every id and can never be\n\
         changed once people have accounts.",
    ),
    used(
        "data_dir",
        "Where everything is kept: database, media, keys. Relative paths in this file are\n\
         relative to the directory that skerry is started in.",
    ),
    used(
        "memory_budget",
        "How much memory the caches may take together, such as \"512MiB\". \"auto\" is a quarter\n\
         of the machine's, at most 1 GiB.",
    ),
    used(
        "durability",
        "\"fsync\": what was acknowledged is on the disk. \"os\": left to the kernel, so a power\n\
         cut may lose the last seconds; a crash of skerry alone loses nothing either way.",
    ),
    used(
        "appservice_registrations",
        "Paths of registration files (YAML) of application services, such as bridges. They are\n\
         read at the start; `skerry appservice register FILE` adds others at any time.",
    ),
    used(
        "listen",
        "Where to listen; one [[listen]] for each address, and none but those written here.\n\
         addr is an address with a port, \"unix:/run/skerry/http.sock\", or \"fd:https\": the sockets\n\
         that systemd (or another holder, LISTEN_FDS) passes under that name or number.\n\
         Without tls it is plain HTTP, for this machine or behind a reverse proxy. With it:\n\
         tls = { cert = \"cert.pem\", key = \"key.pem\" }, or a list of such, of which a client gets\n\
         the one for the name it asks for; tls = \"acme\" (see [acme]); or tls = \"self-signed\"\n\
         for trying things out. Files are looked at every minute and on SIGHUP; what cannot be\n\
         used leaves the old certificate in place.\n\
         proxy_protocol = true: trusted proxies begin with the PROXY protocol (1 or 2) there.\n\
         redirect = true: everything is sent to public.base_url, for port 80.",
    ),
    used(
        "registration.enabled",
        "Whether new accounts can be made from clients at all.",
    ),
    used(
        "registration.open",
        "true: anybody may register, without a token. On the public internet that invites spam.",
    ),
    used(
        "registration.token_file",
        "The first registration token is written here at the first start (relative to data_dir).",
    ),
    used(
        "registration.shared_secret",
        "Enables /_synapse/admin/v1/register for scripts that know this secret; empty: off.",
    ),
    used(
        "registration.email_required",
        "Whether who registers has to show an e-mail address; needs [email].",
    ),
    used(
        "registration.policies",
        "Policies to agree to when registering, such as { privacy = { version = \"1.0\",\n\
         en = { name = \"Privacy\", url = \"https://example.org/privacy\" } } }; more languages\n\
         beside en.",
    ),
    used(
        "access_tokens.in_query",
        "Whether access tokens may stand in the query string, where logs of proxies keep them.\n\
         Some old clients and bots need it; the specification is about to drop it.",
    ),
    used(
        "email.host",
        "The mail server through which to send links to people; empty: no mail, and no addresses.",
    ),
    used("email.port", "Its port; 0: the one that goes with tls."),
    used(
        "email.tls",
        "\"starttls\" (port 587), \"tls\" (465), or \"none\" (25) for one on this machine.",
    ),
    used("email.user", "The name to log in with there; empty: none."),
    used("email.password_file", "A file with the password for it."),
    used(
        "email.from",
        "Whom the mails are from, such as \"Example <no-reply@example.org>\".",
    ),
    used(
        "federation.enabled",
        "Whether to talk with other servers at all.",
    ),
    used(
        "federation.ca_file",
        "A file of further root certificates (PEM) to trust when talking with servers.",
    ),
    used(
        "federation.allow_private_addresses",
        "Whether servers may be at private addresses (LANs). Whoever names a server can then let\n\
         this one knock at machines of its own network.",
    ),
    used(
        "federation.trusted_key_servers",
        "Servers that are asked for the keys of others that do not answer, and believed.",
    ),
    used(
        "federation.allow",
        "Servers to talk with, such as [\"example.org\", \"*.example.org\"]; empty: all.",
    ),
    used(
        "federation.deny",
        "Servers never to talk with, written in the same way.",
    ),
    used(
        "federation.revoked_keys_file",
        "A file of signing keys that nobody may use, besides those that this version knows to be\n\
         in everybody's hands: a public key in base64 on each line. Read again on SIGHUP.",
    ),
    used(
        "federation.old_signing_keys",
        "Keys that this server signed with before, so that others can check what it said then:\n\
         [\"ed25519:VERSION PUBLIC_KEY EXPIRED_TS\"], the key in base64, the time in ms since 1970.",
    ),
    used(
        "federation.presence",
        "Whether to tell other servers which users are there, and to listen when they do.",
    ),
    used(
        "federation.device_names",
        "Whether to tell other servers what users call their devices.",
    ),
    used(
        "policy_server.rooms",
        "Ids of rooms that this server is the policy server of, [\"*\"] for all that it is in: there\n\
         it signs what the lists below let pass, for everybody in them. A room has to choose it too,\n\
         by m.room.policy with what /.well-known/matrix/policy_server then says.\n\
         Empty: nothing is ever signed.",
    ),
    used(
        "policy_server.deny_senders",
        "Users whose events are not signed, such as [\"@spam*:*\"].",
    ),
    used(
        "policy_server.deny_servers",
        "Servers whose users' events are not signed, such as [\"*.example.org\"].",
    ),
    used(
        "policy_server.deny_types",
        "Types of events that are not signed, such as [\"m.room.encrypted\"], in which words and\n\
         files cannot be seen.",
    ),
    used(
        "policy_server.deny_words",
        "Words, and words side by side, that no event may say; case and accents do not count.",
    ),
    used(
        "policy_server.deny_words_file",
        "A file with more of them, one in each line.",
    ),
    used(
        "policy_server.deny_media_file",
        "A file with hashes of files that no event may name: SHA-256 or BLAKE3, 64 hexadecimal\n\
         digits in each line. A message with a file that cannot be fetched is not signed then.",
    ),
    used(
        "http_client.ca_file",
        "A file of further root certificates (PEM) to trust when talking to push gateways, identity\n\
         servers and application services.",
    ),
    used(
        "http_client.allow_private_addresses",
        "Whether these may be on any private address (LANs). Whoever sets a push gateway can then\n\
         let the server knock at machines of its own network.",
    ),
    used(
        "http_client.allowed_private",
        "Hosts, addresses and networks that may be reached although they are private, such as\n\
         [\"ntfy.lan\", \"192.168.7.0/24\"]; push gateways on them need no TLS.",
    ),
    used("rooms.default_version", "The version of new rooms."),
    used(
        "rooms.keep_redacted",
        "How long moderators of a room may still read what was redacted there; \"0\": not at all.",
    ),
    used(
        "retention.enabled",
        "Whether messages end: after the max_lifetime that a room's m.room.retention says, or after\n\
         default_lifetime. They are then shown no more, and deleted within the hour. State stays.",
    ),
    used(
        "retention.default_lifetime",
        "How long rooms that say nothing keep messages, like \"1w\" or \"365d\"; \"0\": for ever.",
    ),
    used(
        "retention.shortest_lifetime",
        "A room that wants messages kept for a shorter time has them kept for this long.",
    ),
    used(
        "retention.longest_lifetime",
        "A room that wants messages kept for longer has them kept for this long; \"0\": no bound.",
    ),
    used(
        "guests.enabled",
        "Whether guests may register without a name or password.",
    ),
    used(
        "room_directory.public_without_auth",
        "Whether those who are not logged in may list the public rooms.",
    ),
    used(
        "room_directory.public_over_federation",
        "Whether other servers may list the public rooms.",
    ),
    used(
        "user_directory.search_all_users",
        "Whether people find everybody of this server by name; otherwise only those with whom\n\
         they share a room, or who are in a public one.",
    ),
    used(
        "server_notices.localpart",
        "The account in whose name the server speaks to its users, such as \"server\"; nobody can\n\
         register it. Empty: no server notices.",
    ),
    used(
        "server_notices.display_name",
        "The display name of that account.",
    ),
    used(
        "server_notices.avatar_url",
        "The picture of that account, an mxc: URI; empty: none.",
    ),
    used(
        "server_notices.room_name",
        "The name of the room with the notices; each user has one of their own.",
    ),
    used(
        "server_notices.room_topic",
        "The topic of that room; empty: none.",
    ),
    used(
        "server_notices.room_avatar_url",
        "The picture of that room, an mxc: URI; empty: none.",
    ),
    used(
        "server_notices.auto_join",
        "Whether users are put into that room instead of invited.",
    ),
    used(
        "url_preview.enabled",
        "Whether to fetch previews of links for clients. Whoever has an account can then have\n\
         this server fetch any public page.",
    ),
    used(
        "url_preview.allowed_hosts",
        "Only links to these are previewed: host names, which stand for those below them too, or\n\
         addresses; empty: all.",
    ),
    used(
        "url_preview.denied_hosts",
        "Links to these are never previewed, nor is followed where they are led to.",
    ),
    used(
        "url_preview.allowed_private",
        "Hosts, addresses and networks that previews may reach although they are private;\n\
         http_client.allowed_private does not count here, since everybody can name links.",
    ),
    used(
        "password.cost",
        "How hard passwords are to guess when the database is stolen: \"default\", or \"minimal\"\n\
         for tests.",
    ),
    used(
        "public.base_url",
        "Where clients reach this server from outside, such as \"https://matrix.example.org\".\n\
         Empty: derived from server_name.",
    ),
    used(
        "public.hsts_subdomains",
        "Browsers are told for two years to use TLS here, where the certificate is not self-signed;\n\
         true: also for all names below this one.",
    ),
    used(
        "public.hsts_preload",
        "Whether this name may be put into the list of such names that browsers come with.",
    ),
    used(
        "acme.email",
        "Automatic certificates (ACME): setting an e-mail address turns them on. Ports 443 and 80\n\
         are opened, unless a [[listen]] with tls = \"acme\", or with redirect = true, stands for\n\
         them. The names are those of public.base_url, server_name and web.host. Until a\n\
         certificate is there, a self-signed one is served; `skerry doctor` says what is wrong.",
    ),
    used(
        "acme.directory",
        "\"letsencrypt\", \"letsencrypt-staging\" (for trying out; browsers do not believe it), or\n\
         the URL of another CA's directory.",
    ),
    used(
        "acme.ca_file",
        "A file of further root certificates (PEM) to trust when talking to the CA.",
    ),
    used(
        "acme.challenge",
        "How the CA sees that a name is ours: \"tls-alpn-01\" (port 443), \"http-01\" (port 80),\n\
         \"dns-01\" (acme.dns_hook), or \"auto\": the program where there is one; else port 443 (80\n\
         behind Cloudflare or a trusted proxy), and the other after two failures.",
    ),
    used(
        "acme.dns_hook",
        "A program for dns-01, called with: present NAME VALUE, and later: cleanup NAME VALUE. It\n\
         publishes the TXT record NAME, and ends well once it can be seen.",
    ),
    used(
        "acme.eab",
        "External account binding, where the CA asks for it: the key's name, and a file with the\n\
         key as the CA gave it (base64url).",
    ),
    used(
        "acme.domains",
        "Further names, each with a certificate of its own.",
    ),
    used(
        "proxy.trusted",
        "Reverse proxies to believe about who asks: addresses, networks (\"10.0.0.0/8\"),\n\
         \"loopback\" (and Unix sockets), \"cloudflare\" (a list that comes with this version), or\n\
         \"file:PATH\" (a network in each line). What others say is ignored.",
    ),
    used(
        "proxy.client_address",
        "The header they name the client in: \"x-forwarded-for\", \"forwarded\",\n\
         \"cf-connecting-ip\".",
    ),
    used(
        "limits.tls_handshake",
        "How long a TLS handshake may take, and a PROXY protocol header.",
    ),
    used(
        "limits.headers",
        "How long the headers of a request may take to arrive.",
    ),
    used("limits.header_size", "How long they may be together."),
    used(
        "limits.body_per_second",
        "The slowest that the body of a request may arrive; \"0\" is no limit.",
    ),
    used("limits.body_grace", "How long it may be slower than that."),
    used(
        "limits.stalled_write",
        "How long a client may take in nothing of its answer.",
    ),
    used(
        "limits.connections_per_address",
        "How many connections an address may have open (IPv6: a /64); 0 is no limit. Trusted\n\
         proxies and Unix sockets are not counted.",
    ),
    used(
        "limits.connections",
        "How many connections may be open in all; further ones wait.",
    ),
    used(
        "limits.requests_per_address",
        "How many requests a second an address may make over a longer time (IPv6: a /64), and\n\
         ten times as many at once; 0 is no limit. A connection counts as one. Trusted proxies\n\
         and this machine are not counted.",
    ),
    used(
        "media.backend",
        "Where files lie: \"local\" (in data_dir) or \"s3\" (in an object store, see media.s3). What\n\
         is there already is not moved.",
    ),
    used("media.max_upload", "The largest file that may be uploaded."),
    used(
        "media.user_quota",
        "How much each person may upload in all; \"0\" is no limit.",
    ),
    used(
        "media.max_remote",
        "The largest file that is fetched from another server.",
    ),
    used(
        "media.remote_cache",
        "How much of other servers' media is kept at most; \"0\": as much as there is. What was\n\
         looked at longest ago goes first, and what is an avatar or the like never.",
    ),
    used(
        "media.free_disk_floor",
        "Space to leave free on the disk. Below it nothing more is written, and reading goes on.",
    ),
    used(
        "media.trash_days",
        "How many days deleted media of this server can be brought back; 0: not at all.",
    ),
    used(
        "media.unauthenticated",
        "Downloads without a token, for old clients: \"frozen\" (only what was uploaded while this\n\
         was \"open\"), \"off\", \"open\".",
    ),
    used(
        "media.thumbnails_in_advance",
        "Make the usual thumbnails of a picture when it is uploaded, not when one is asked for.",
    ),
    used(
        "media.picture_pixels",
        "The most pixels of a picture that are decoded for a thumbnail; of one that moves, all frames\n\
         together. A JPEG counts in the size that it is decoded to, at least an eighth.",
    ),
    used(
        "media.picture_memory",
        "The most memory for it, with the picture's file.",
    ),
    used(
        "media.prune.at",
        "When to delete what is old each day, in UTC; empty: never. What is named in a room's\n\
         state, a profile, account data or a pinned message stays, however old it is.",
    ),
    used(
        "media.prune.remote_older_than",
        "What of other servers' media is old: not looked at for so long; \"0\": nothing.",
    ),
    used(
        "media.prune.local_older_than",
        "The same of media of this server, which goes to the trash first.",
    ),
    used(
        "media.prune.thumbnails_older_than",
        "The same of thumbnails, which are made again when they are needed.",
    ),
    used(
        "media.s3.endpoint",
        "For backend = \"s3\": the service's URL, without the bucket, which is named in the path.",
    ),
    used("media.s3.bucket", "The bucket."),
    used(
        "media.s3.prefix",
        "What the names of all objects begin with. What lies below it belongs to this server alone:\n\
         whatever it does not know there it deletes.",
    ),
    used("media.s3.region", "The region, as the service calls it."),
    used("media.s3.access_key_file", "A file with the access key."),
    used("media.s3.secret_key_file", "A file with the secret key."),
    used(
        "delayed_events.max_delay",
        "The longest that clients may delay an event (calls use it to notice who is gone).",
    ),
    used(
        "turn.uris",
        "Relays for calls between two, such as [\"turn:turn.example.org?transport=udp\"].",
    ),
    used(
        "turn.shared_secret_file",
        "A file with the secret shared with the relays (static-auth-secret of coturn).",
    ),
    used(
        "turn.username",
        "Instead of a shared secret: the name by which all log in there, with password_file.",
    ),
    used(
        "turn.password_file",
        "A file with the password to that name.",
    ),
    used(
        "turn.ttl",
        "For how long a login made from the shared secret is good.",
    ),
    used("turn.guests", "Whether guests may use the relays."),
    used(
        "livekit.url",
        "Where clients reach the LiveKit server for group calls, such as\n\
         \"wss://livekit.example.org\". Set, this server hands out the tokens for it: LiveKit's\n\
         room.auto_create has to be false then.",
    ),
    used("livekit.key", "The name of its API key."),
    used("livekit.secret_file", "A file with the secret of that key."),
    used(
        "web.host",
        "The host name under which alone a web client is served, such as \"chat.example.org\";\n\
         empty: under every name of this server. A name of its own is safer: what people upload\n\
         is then never of the same origin as the client.",
    ),
    used(
        "web.dir",
        "A folder with a web client's build; empty: the one of `skerry web install`.",
    ),
    used(
        "web.override",
        "A file in data_dir with changes to the web client's configuration: a JSON object whose\n\
         keys replace those of the generated one; null takes one away.",
    ),
    used(
        "well_known.server",
        "Where other servers reach this one, as host:port, for /.well-known/matrix/server; empty:\n\
         the host of public.base_url at the port that clients use, so that 443 is enough.",
    ),
    used(
        "well_known.client_extra",
        "More for /.well-known/matrix/client.",
    ),
    used(
        "well_known.support",
        "The content of /.well-known/matrix/support: contacts, support_page.",
    ),
    used(
        "rate_limit.enabled",
        "Whether too many requests in a short time are refused: 429, with the time to wait.",
    ),
    used(
        "rate_limit.send",
        "How often each person may send events and change things: a second over a longer time,\n\
         and at once after a pause.",
    ),
    used(
        "rate_limit.join",
        "The same of joining, inviting and making rooms.",
    ),
    used(
        "rate_limit.login",
        "The same of what tries out secrets, such as logging in; by address (IPv6: a /64) where\n\
         nobody is logged in yet.",
    ),
    used(
        "rate_limit.register",
        "The same of making accounts, by address.",
    ),
    used("rate_limit.media", "The same of downloads."),
    used("rate_limit.upload", "The same of uploads."),
    used(
        "rate_limit.heavy",
        "The same of what costs much: searches, key queries, reports.",
    ),
    used(
        "rate_limit.federation",
        "The same of what another server sends and asks; its joins and downloads count as those.",
    ),
    used(
        "metrics.token_file",
        "A file with a token. Set, /metrics answers who shows it (Authorization: Bearer TOKEN),\n\
         in the text format of Prometheus. Empty: only on admin.sock in data_dir.",
    ),
    used(
        "log.level",
        "\"error\", \"warn\", \"info\", \"debug\", \"trace\", or by part of the program:\n\
         \"info,skerry_room=debug\".",
    ),
    used(
        "log.format",
        "\"text\", \"json\", or \"journald\" (text without times, which the journal adds).",
    ),
];

/// The default configuration as a table.
pub(super) fn defaults() -> Table {
    Table::try_from(RawConfig::default()).unwrap_or_default()
}

/// The value at a dotted key.
pub(super) fn lookup<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let mut parts = key.split('.');
    let mut value = table.get(parts.next()?)?;
    for part in parts {
        value = value.as_table()?.get(part)?;
    }
    Some(value)
}

/// The example file: every option with its default and its meaning.
#[must_use]
pub fn example() -> String {
    let defaults = defaults();
    let mut text = String::from(
        "# The configuration of Skerry. Every option is here with its default, so an empty file\n\
         # (or none) means the same. Environment variables override it: SKERRY_SERVER_NAME,\n\
         # SKERRY_REGISTRATION__OPEN (two underscores after each section).\n\
         # `skerry check-config --config FILE` says what is wrong with a file.\n",
    );
    let mut section = "";
    let mut listeners = String::new();
    for doc in DOCS {
        let (head, key) = doc.key.rsplit_once('.').unwrap_or(("", doc.key));
        let mut entry = String::new();
        for line in doc.doc.lines() {
            let _ = writeln!(entry, "# {}", line.trim_start());
        }
        if doc.key == "listen" {
            // An array of tables has to come after the plain keys of its level.
            listeners = format!("\n{entry}[[listen]]\naddr = \"127.0.0.1:8008\"\n");
            continue;
        }
        if head != section {
            text.push_str(&std::mem::take(&mut listeners));
            let _ = write!(text, "\n[{head}]\n");
            section = head;
        } else {
            text.push('\n');
        }
        text.push_str(&entry);
        let value = lookup(&defaults, doc.key)
            .map(Value::to_string)
            .unwrap_or_default();
        let _ = writeln!(text, "{key} = {value}");
    }
    text
}
