//! `skerry serve`: from the configuration to listening sockets, and back to nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skerry_core::{Clock, DiceSource};
use skerry_media::WorkerSettings;
use skerry_proxy::{Addr, Door, Inherited, Limits, Listener, ListenerSpec, Orders, Settings};
use skerry_remote::federation::{KeyRing, Revoked};
use skerry_store::{Health, StoreOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cli::show;
use crate::clock::{SystemClock, SystemDice};
use crate::config::{Config, show_bytes};
use crate::house::MemoryDivision;
use crate::workers::Workers;
use crate::{House, logging, secrets};

/// How long decoding a picture may take.
const PICTURE_DEADLINE: Duration = Duration::from_secs(20);

/// Runs the server until SIGINT or SIGTERM.
///
/// # Errors
/// What could not be started, in words for the operator; or that the disk failed.
pub async fn serve(config: Config) -> Result<(), String> {
    logging::start(&config.log);
    for key in &config.ignored {
        tracing::warn!("the option {key} is set, but does nothing as the others stand");
    }
    // Before anything else, so that a signal during the start ends it in good order as well.
    let mut signals = Signals::new()?;
    let config = Arc::new(Config {
        picture_worker: picture_worker(config.pictures.memory),
        ..config
    });
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let dice: Arc<dyn DiceSource> = Arc::new(SystemDice);
    let open = {
        let (config, dice) = (Arc::clone(&config), Arc::clone(&dice));
        let handle = tokio::runtime::Handle::current();
        move || {
            let _runtime = handle.enter();
            House::open(config, clock, dice)
        }
    };
    let opened = tokio::task::spawn_blocking(open)
        .await
        .map_err(|e| e.to_string())?;
    let house = opened.map_err(|e| e.to_string())?;
    let workers = Workers::start(&house);
    let doors = doors(&house, &workers.stopping()).await?;
    announce(&house, &doors).await?;
    let (reload, asked) = watch::channel(());
    tokio::spawn(reread_revoked(
        house.outgoing.federation.keys().clone(),
        config.federation.revoked_file.clone(),
        reload.subscribe(),
    ));
    let orders = Orders {
        stop: workers.stopping(),
        reload: asked,
    };
    let served = doors.iter().filter_map(|door| door.listener.served());
    // Nobody else sets it.
    let _ = house.gauges.served.set(served.collect());
    let settings = Settings {
        acme: house.acme.clone(),
        counters: Arc::clone(&house.gauges.door),
        ..settings(&house.config)
    };
    let serving = tokio::spawn(skerry_proxy::serve(doors, settings, orders));
    let outcome = until_the_end(&house, &mut signals, &reload).await;
    tracing::info!("stopping");
    workers.tell();
    finish(house, workers, serving).await;
    outcome
}

/// Pictures are decoded by this program started again, shut in.
fn picture_worker(memory: u64) -> Option<WorkerSettings> {
    let program = std::env::current_exe();
    let program = program.inspect_err(|error| {
        tracing::warn!(%error, "pictures are decoded in the server itself");
    });
    Some(WorkerSettings {
        command: vec![program.ok()?.into(), "make-thumbnails".into()],
        memory,
        deadline: PICTURE_DEADLINE,
    })
}

/// Reads the list of keys that nobody may use again, each time that is asked for.
async fn reread_revoked(keys: KeyRing, file: Option<PathBuf>, mut asked: watch::Receiver<()>) {
    while asked.changed().await.is_ok() {
        match Revoked::load(file.as_deref()) {
            Ok(revoked) => keys.revoke(revoked),
            Err(error) => tracing::error!(%error, "the list of revoked keys stays as it was"),
        }
    }
}

/// SIGINT and SIGTERM, which end it, and SIGHUP, which has files read again.
struct Signals {
    int: tokio::signal::unix::Signal,
    term: tokio::signal::unix::Signal,
    hup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Signals, String> {
        let open = |kind| signal(kind).map_err(|e| format!("cannot wait for signals: {e}"));
        Ok(Signals {
            int: open(SignalKind::interrupt())?,
            term: open(SignalKind::terminate())?,
            hup: open(SignalKind::hangup())?,
        })
    }

    /// Waits for the end; until then each SIGHUP is told to `reload`.
    async fn end(&mut self, reload: &watch::Sender<()>) {
        loop {
            tokio::select! {
                _ = self.int.recv() => return,
                _ = self.term.recv() => return,
                _ = self.hup.recv() => reload.send_replace(()),
            }
        }
    }
}

/// Waits for a signal, or for the disk to fail for good.
async fn until_the_end(
    house: &House,
    signals: &mut Signals,
    reload: &watch::Sender<()>,
) -> Result<(), String> {
    let mut health = house.store.health();
    loop {
        tokio::select! {
            () = signals.end(reload) => return Ok(()),
            changed = health.changed() => {
                if changed.is_err() {
                    return Err("the database was closed".into());
                }
            }
        }
        match &*health.borrow_and_update() {
            Health::Good => tracing::info!("the database takes writes again"),
            Health::Full => tracing::error!(
                "the disk is full: nothing more is written until there is space, reading goes on"
            ),
            Health::Poisoned(why) => {
                return Err(format!(
                    "the disk failed, nothing can be promised any more: {why}"
                ));
            }
            Health::Closed => return Err("the database was closed".into()),
        }
    }
}

/// The orderly end: requests finish, workers finish, the database is closed.
async fn finish(house: House, workers: Workers, serving: tokio::task::JoinHandle<()>) {
    if let Err(error) = serving.await {
        tracing::warn!(%error, "serving ended badly");
    }
    workers.stop().await;
    if let Err(error) = tokio::task::spawn_blocking(move || house.close()).await {
        tracing::warn!(%error, "the database was not closed");
    }
}

/// Binds all listeners, and the admin socket.
async fn doors(house: &House, stop: &watch::Receiver<bool>) -> Result<Vec<Door>, String> {
    let mut doors = Vec::new();
    let router = house.public_router(Some(stop.clone()));
    let mut inherited = Inherited::from_environment();
    for spec in &house.config.listen {
        let opened = Listener::open(spec, &mut inherited, house.acme.as_ref()).await;
        for listener in opened.map_err(|e| e.to_string())? {
            let router = router.clone();
            doors.push(Door { listener, router });
        }
    }
    for name in inherited.left() {
        tracing::warn!("a socket was passed that no [[listen]] names: fd:{name}");
    }
    let spec = ListenerSpec::plain(Addr::Unix(house.config.admin_socket()));
    let listener = Listener::bind(&spec).await.map_err(|e| e.to_string())?;
    doors.push(Door {
        listener,
        router: house.admin_router(),
    });
    Ok(doors)
}

/// What the doors keep to: no more connections than half of the files that may be open, the rest
/// is the database's.
fn settings(config: &Config) -> Settings {
    let settings = config.front.clone();
    let wanted = settings.limits.max_connections;
    let possible = connections();
    if possible < wanted {
        tracing::warn!(
            possible,
            "limits.connections is {wanted}, but too few files may be open (ulimit -n)"
        );
    }
    Settings {
        limits: Limits {
            max_connections: wanted.min(possible),
            ..settings.limits
        },
        ..settings
    }
}

/// How many connections are possible.
fn connections() -> usize {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if limit.current < limit.maximum {
        let wanted = limit.maximum.map(|most| most.min(65_536)).or(Some(65_536));
        let raised = rustix::process::Rlimit {
            current: wanted,
            maximum: limit.maximum,
        };
        if rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).is_ok() {
            limit = raised;
        }
    }
    let files = limit.current.unwrap_or(65_536);
    usize::try_from(files / 2).unwrap_or(4096).clamp(64, 32_768)
}

/// A few plain lines for whoever started it.
async fn announce(house: &House, doors: &[Door]) -> Result<(), String> {
    let config = &house.config;
    let mut text = format!(
        "Skerry {} for {}\n",
        env!("CARGO_PKG_VERSION"),
        config.server_name
    );
    for door in doors {
        let scheme = if door.listener.is_tls() {
            "https"
        } else {
            "http"
        };
        let place = match door.listener.addr() {
            Addr::Tcp(addr) => format!("{scheme}://{addr}"),
            unix => unix.to_string(),
        };
        text.push_str(&format!("  listening on {place}\n"));
    }
    let options = StoreOptions {
        memory_budget_bytes: config.memory_budget,
        ..StoreOptions::default()
    };
    let division = MemoryDivision::of(&options);
    text.push_str(&format!(
        "  memory {}: {division}\n",
        show_bytes(config.memory_budget)
    ));
    text.push_str(&first_steps(house).await?);
    show::text(&text);
    Ok(())
}

/// While nobody has an account: how to make the first one.
async fn first_steps(house: &House) -> Result<String, String> {
    let config = &house.config;
    let path = &config.registration.token_file;
    let existed = path.exists();
    let token = secrets::first_token(path, &mut *house.dice.dice()).map_err(|e| e.to_string())?;
    let Some(token) = house
        .accounts
        .first_token(token)
        .await
        .map_err(|e| e.to_string())?
    else {
        if !existed {
            // Somebody has an account already: a fresh token would be good for nothing.
            let _ = std::fs::remove_file(path);
        }
        return Ok(String::new());
    };
    let how = if config.registration.enabled && config.registration.open {
        "Registration is open: no token is needed.".to_owned()
    } else if config.registration.enabled {
        format!("Registration token: {token}  (also in {})", path.display())
    } else {
        "Registration from clients is off.".to_owned()
    };
    let url = &config.base_url;
    Ok(format!(
        "\n  Nobody has an account yet; the first one becomes the administrator.\n  {how}\n  \
         Open a Matrix client (Element Web, Cinny ...), choose the homeserver {url}\n  and \
         register there; or type: skerry user create NAME\n\n"
    ))
}
