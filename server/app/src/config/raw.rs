//! The configuration file as it is written, before anything is checked but its shape.
//!
//! What each key means stands in `docs.rs`, from which the example file is made; a test keeps
//! both in step.
#![allow(missing_docs)]

use serde::{Deserialize, Serialize};
use toml::Table;

/// Declares a section: its fields with types and defaults; unknown keys are refused.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $(pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $default,)* }
            }
        }
    };
}

section! {
    /// The whole file.
    RawConfig {
        server_name: String = "localhost".into(),
        data_dir: String = "./data".into(),
        memory_budget: String = "auto".into(),
        durability: String = "fsync".into(),
        appservice_registrations: Vec<String> = Vec::new(),
        listen: Vec<RawListen> = vec![RawListen::default()],
        registration: RawRegistration = RawRegistration::default(),
        access_tokens: RawAccessTokens = RawAccessTokens::default(),
        email: RawEmail = RawEmail::default(),
        federation: RawFederation = RawFederation::default(),
        policy_server: RawPolicyServer = RawPolicyServer::default(),
        http_client: RawHttpClient = RawHttpClient::default(),
        rooms: RawRooms = RawRooms::default(),
        retention: RawRetention = RawRetention::default(),
        guests: RawGuests = RawGuests::default(),
        room_directory: RawRoomDirectory = RawRoomDirectory::default(),
        user_directory: RawUserDirectory = RawUserDirectory::default(),
        server_notices: RawServerNotices = RawServerNotices::default(),
        url_preview: RawUrlPreview = RawUrlPreview::default(),
        password: RawPassword = RawPassword::default(),
        public: RawPublic = RawPublic::default(),
        acme: RawAcme = RawAcme::default(),
        proxy: RawProxy = RawProxy::default(),
        limits: RawLimits = RawLimits::default(),
        media: RawMedia = RawMedia::default(),
        delayed_events: RawDelayedEvents = RawDelayedEvents::default(),
        turn: RawTurn = RawTurn::default(),
        livekit: RawLiveKit = RawLiveKit::default(),
        web: RawWeb = RawWeb::default(),
        well_known: RawWellKnown = RawWellKnown::default(),
        rate_limit: RawRateLimit = RawRateLimit::default(),
        metrics: RawMetrics = RawMetrics::default(),
        log: RawLog = RawLog::default(),
    }
}

section! {
    /// `[[listen]]`
    RawListen {
        addr: String = "127.0.0.1:8008".into(),
        tls: Option<RawTls> = None,
        proxy_protocol: bool = false,
        redirect: bool = false,
    }
}

/// `tls` of a listener: two files, several times two, or a word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RawTls {
    /// `"acme"` or `"self-signed"`.
    Word(String),
    /// `{ cert = "..", key = ".." }`
    Files(RawTlsFiles),
    /// `[{ cert = "..", key = ".." }, ..]`
    Several(Vec<RawTlsFiles>),
}

/// `{ cert, key }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTlsFiles {
    pub cert: String,
    pub key: String,
}

section! {
    /// `[registration]`
    RawRegistration {
        enabled: bool = true,
        open: bool = false,
        token_file: String = "registration_token".into(),
        shared_secret: String = String::new(),
        email_required: bool = false,
        policies: Table = Table::new(),
    }
}

section! {
    /// `[access_tokens]`
    RawAccessTokens {
        in_query: bool = true,
    }
}

section! {
    /// `[email]`
    RawEmail {
        host: String = String::new(),
        port: u16 = 0,
        tls: String = "starttls".into(),
        user: String = String::new(),
        password_file: String = String::new(),
        from: String = String::new(),
    }
}

section! {
    /// `[federation]`
    RawFederation {
        enabled: bool = true,
        ca_file: String = String::new(),
        allow_private_addresses: bool = false,
        trusted_key_servers: Vec<String> = Vec::new(),
        allow: Vec<String> = Vec::new(),
        deny: Vec<String> = Vec::new(),
        revoked_keys_file: String = String::new(),
        old_signing_keys: Vec<String> = Vec::new(),
        presence: bool = true,
        device_names: bool = false,
    }
}

section! {
    /// `[policy_server]`
    RawPolicyServer {
        rooms: Vec<String> = Vec::new(),
        deny_senders: Vec<String> = Vec::new(),
        deny_servers: Vec<String> = Vec::new(),
        deny_types: Vec<String> = Vec::new(),
        deny_words: Vec<String> = Vec::new(),
        deny_words_file: String = String::new(),
        deny_media_file: String = String::new(),
    }
}

section! {
    /// `[http_client]`
    RawHttpClient {
        ca_file: String = String::new(),
        allow_private_addresses: bool = false,
        allowed_private: Vec<String> = Vec::new(),
    }
}

section! {
    /// `[rooms]`
    RawRooms {
        default_version: String = "12".into(),
        keep_redacted: String = "7d".into(),
    }
}

section! {
    /// `[retention]`
    RawRetention {
        enabled: bool = false,
        default_lifetime: String = "0".into(),
        shortest_lifetime: String = "0".into(),
        longest_lifetime: String = "0".into(),
    }
}

section! {
    /// `[guests]`
    RawGuests {
        enabled: bool = false,
    }
}

section! {
    /// `[room_directory]`
    RawRoomDirectory {
        public_without_auth: bool = true,
        public_over_federation: bool = false,
    }
}

section! {
    /// `[user_directory]`
    RawUserDirectory {
        search_all_users: bool = false,
    }
}

section! {
    /// `[server_notices]`
    RawServerNotices {
        localpart: String = String::new(),
        display_name: String = "Server Notices".into(),
        avatar_url: String = String::new(),
        room_name: String = "Server Notices".into(),
        room_topic: String = String::new(),
        room_avatar_url: String = String::new(),
        auto_join: bool = false,
    }
}

section! {
    /// `[url_preview]`
    RawUrlPreview {
        enabled: bool = false,
        allowed_hosts: Vec<String> = Vec::new(),
        denied_hosts: Vec<String> = Vec::new(),
        allowed_private: Vec<String> = Vec::new(),
    }
}

section! {
    /// `[password]`
    RawPassword {
        cost: String = "default".into(),
    }
}

section! {
    /// `[public]`
    RawPublic {
        base_url: String = String::new(),
        hsts_subdomains: bool = false,
        hsts_preload: bool = false,
    }
}

section! {
    /// `[acme]`
    RawAcme {
        email: String = String::new(),
        directory: String = "letsencrypt".into(),
        ca_file: String = String::new(),
        challenge: String = "auto".into(),
        dns_hook: String = String::new(),
        eab: RawEab = RawEab::default(),
        domains: Vec<String> = Vec::new(),
    }
}

section! {
    /// `acme.eab`
    RawEab {
        key_id: String = String::new(),
        hmac_key_file: String = String::new(),
    }
}

section! {
    /// `[proxy]`
    RawProxy {
        trusted: Vec<String> = Vec::new(),
        client_address: String = "x-forwarded-for".into(),
    }
}

section! {
    /// `[limits]`
    RawLimits {
        tls_handshake: String = "10s".into(),
        headers: String = "10s".into(),
        header_size: String = "32KiB".into(),
        body_per_second: String = "1KiB".into(),
        body_grace: String = "10s".into(),
        stalled_write: String = "30s".into(),
        connections_per_address: u32 = 256,
        connections: usize = 4096,
        requests_per_address: u32 = 200,
    }
}

section! {
    /// `[media]`
    RawMedia {
        backend: String = "local".into(),
        max_upload: String = "100MiB".into(),
        user_quota: String = "0".into(),
        max_remote: String = "100MiB".into(),
        remote_cache: String = "4GiB".into(),
        free_disk_floor: String = "1GiB".into(),
        trash_days: u32 = 7,
        unauthenticated: String = "frozen".into(),
        thumbnails_in_advance: bool = false,
        picture_pixels: u64 = 50_000_000,
        picture_memory: String = "128MiB".into(),
        prune: RawPrune = RawPrune::default(),
        s3: RawS3 = RawS3::default(),
    }
}

section! {
    /// `[media.prune]`
    RawPrune {
        at: String = "03:30".into(),
        remote_older_than: String = "90d".into(),
        local_older_than: String = "0".into(),
        thumbnails_older_than: String = "90d".into(),
    }
}

section! {
    /// `[media.s3]`
    RawS3 {
        endpoint: String = String::new(),
        bucket: String = String::new(),
        prefix: String = String::new(),
        region: String = "us-east-1".into(),
        access_key_file: String = String::new(),
        secret_key_file: String = String::new(),
    }
}

section! {
    /// `[delayed_events]`
    RawDelayedEvents {
        max_delay: String = "24h".into(),
    }
}

section! {
    /// `[turn]`
    RawTurn {
        uris: Vec<String> = Vec::new(),
        shared_secret_file: String = String::new(),
        username: String = String::new(),
        password_file: String = String::new(),
        ttl: String = "24h".into(),
        guests: bool = false,
    }
}

section! {
    /// `[livekit]`
    RawLiveKit {
        url: String = String::new(),
        key: String = String::new(),
        secret_file: String = String::new(),
    }
}

section! {
    /// `[web]`
    RawWeb {
        host: String = String::new(),
        dir: String = String::new(),
        r#override: String = "config.override.json".into(),
    }
}

section! {
    /// `[well_known]`
    RawWellKnown {
        server: String = String::new(),
        client_extra: Table = Table::new(),
        support: Table = Table::new(),
    }
}

section! {
    /// `[rate_limit]`
    RawRateLimit {
        enabled: bool = true,
        send: RawAllowance = allowance(50.0, 500),
        join: RawAllowance = allowance(5.0, 100),
        login: RawAllowance = allowance(0.5, 30),
        register: RawAllowance = allowance(0.5, 30),
        media: RawAllowance = allowance(20.0, 200),
        upload: RawAllowance = allowance(2.0, 100),
        heavy: RawAllowance = allowance(20.0, 200),
        federation: RawAllowance = allowance(50.0, 500),
    }
}

/// `{ per_second, at_once }`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAllowance {
    pub per_second: f64,
    pub at_once: u32,
}

const fn allowance(per_second: f64, at_once: u32) -> RawAllowance {
    RawAllowance {
        per_second,
        at_once,
    }
}

section! {
    /// `[metrics]`
    RawMetrics {
        token_file: String = String::new(),
    }
}

section! {
    /// `[log]`
    RawLog {
        level: String = "info".into(),
        format: String = "text".into(),
    }
}
