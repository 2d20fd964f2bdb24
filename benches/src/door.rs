//! Skerry's own door beside nginx and caddy in front of a Skerry: the same certificate, the same
//! client, the same files.

use std::fmt::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

use crate::Outcome;
use crate::http::Conn;
use crate::report;
use crate::server::{Server, cpu_seconds, memory_mib};

/// The sizes of the files that are served, in bytes.
pub(crate) const FILES: [(&str, usize); 3] = [
    ("4 KiB", 4 << 10),
    ("300 KiB", 300 << 10),
    ("5 MiB", 5 << 20),
];

/// Where somebody answers.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) name: &'static str,
    /// Under TLS.
    pub(crate) addr: String,
    who: Who,
}

#[derive(Debug)]
enum Who {
    /// The Skerry under test.
    Skerry(Box<Server>),
    /// Another program and the Skerry behind it.
    Proxy(Child, Box<Server>),
}

/// What the doors share.
#[derive(Debug)]
pub(crate) struct Street {
    dir: TempDir,
    program: PathBuf,
    roots: RootCertStore,
}

impl Street {
    /// Makes the certificate (P-256, for `localhost`) and the files.
    pub(crate) fn new(program: &Path, parent: &Path) -> Outcome<Street> {
        let dir = tempfile::Builder::new()
            .prefix("skerry-door-")
            .tempdir_in(parent)?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made: CertifiedKey<KeyPair> = rcgen::generate_simple_self_signed(names)?;
        std::fs::write(dir.path().join("cert.pem"), made.cert.pem())?;
        std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem())?;
        let site = dir.path().join("site");
        std::fs::create_dir(&site)?;
        std::fs::write(site.join("index.html"), "<!doctype html><title>x</title>")?;
        for (name, size) in FILES {
            std::fs::write(site.join(file_name(name)), noise(size))?;
        }
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone())?;
        Ok(Street {
            dir,
            program: program.to_owned(),
            roots,
        })
    }

    /// How the client speaks TLS: X25519, and resuming or not.
    pub(crate) fn client(&self, resumes: bool) -> Outcome<Arc<ClientConfig>> {
        let mut provider = default_provider();
        provider.kx_groups = vec![kx_group::X25519];
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        if !resumes {
            config.resumption = Resumption::disabled();
        }
        Ok(Arc::new(config))
    }

    /// A Skerry of its own, which serves plainly and under TLS.
    pub(crate) fn skerry(&self) -> Outcome<Door> {
        let port = free_port()?;
        let file = |name: &str| self.dir.path().join(name).display().to_string();
        let more = format!(
            "[[listen]]\naddr = \"127.0.0.1:{port}\"\n\
             tls = {{ cert = \"{}\", key = \"{}\" }}\n[web]\ndir = \"{}\"\n",
            file("cert.pem"),
            file("key.pem"),
            file("site")
        );
        let mut server = Server::with(&self.program, self.dir.path(), &more)?;
        server.start()?;
        Ok(Door {
            name: "skerry",
            addr: format!("127.0.0.1:{port}"),
            who: Who::Skerry(Box::new(server)),
        })
    }

    /// nginx with a Skerry behind it; nothing where it is not installed.
    pub(crate) fn nginx(&self) -> Outcome<Option<Door>> {
        let dir = self.dir.path().display();
        self.proxy("nginx", |port, back| {
            let text = format!(
                "worker_processes auto;\ndaemon off;\nuser root;\npid {dir}/nginx.pid;\n\
                 error_log stderr error;\nevents {{ worker_connections 8192; }}\n\
                 http {{\n access_log off;\n include /etc/nginx/mime.types;\n sendfile on;\n \
                 client_body_temp_path {dir}/body;\n proxy_temp_path {dir}/proxied;\n \
                 fastcgi_temp_path {dir}/f;\n uwsgi_temp_path {dir}/u;\n scgi_temp_path {dir}/s;\n \
                 keepalive_requests 1000000;\n \
                 upstream back {{ server {back}; keepalive 64; }}\n \
                 server {{\n listen {port} ssl http2;\n ssl_certificate {dir}/cert.pem;\n \
                 ssl_certificate_key {dir}/key.pem;\n ssl_protocols TLSv1.2 TLSv1.3;\n \
                 ssl_session_cache shared:x:10m;\n root {dir}/site;\n \
                 location /_matrix {{ proxy_pass http://back; proxy_http_version 1.1; \
                 proxy_set_header Connection \"\"; }}\n }}\n}}\n"
            );
            let file = self.dir.path().join("nginx.conf");
            std::fs::write(&file, text)?;
            let mut command = Command::new("nginx");
            command.arg("-c").arg(file).arg("-p").arg(self.dir.path());
            Ok(command)
        })
    }

    /// caddy with a Skerry behind it; nothing where it is not installed.
    pub(crate) fn caddy(&self) -> Outcome<Option<Door>> {
        let dir = self.dir.path().display();
        self.proxy("caddy", |port, back| {
            let text = format!(
                "{{\n admin off\n auto_https off\n log {{\n level ERROR\n }}\n}}\n\
                 https://localhost:{port}, https://127.0.0.1:{port} {{\n \
                 tls {dir}/cert.pem {dir}/key.pem\n root * {dir}/site\n \
                 handle /_matrix/* {{\n reverse_proxy {back}\n }}\n \
                 handle {{\n file_server\n }}\n}}\n"
            );
            let file = self.dir.path().join("Caddyfile");
            std::fs::write(&file, text)?;
            let mut command = Command::new("caddy");
            command
                .args(["run", "--adapter", "caddyfile", "--config"])
                .arg(file);
            command.env("HOME", self.dir.path());
            Ok(command)
        })
    }

    fn proxy(
        &self,
        name: &'static str,
        command: impl FnOnce(u16, &str) -> Outcome<Command>,
    ) -> Outcome<Option<Door>> {
        let mut server = Server::with(&self.program, self.dir.path(), "")?;
        let port = free_port()?;
        let mut command = command(port, &server.addr)?;
        let log = std::fs::File::create(self.dir.path().join(format!("{name}.log")))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                report::line(&format!("  {name} is not installed: left out"));
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        server.start()?;
        let door = Door {
            name,
            addr: format!("127.0.0.1:{port}"),
            who: Who::Proxy(child, Box::new(server)),
        };
        door.wait_for(&self.client(false)?)
            .map_err(|error| format!("{name}: {error}; its log is {}", self.log(name)))?;
        Ok(Some(door))
    }

    fn log(&self, name: &str) -> String {
        let path = self.dir.path().join(format!("{name}.log"));
        let mut text = String::new();
        // What cannot be read is not there.
        let _ = write!(
            text,
            "{}",
            std::fs::read_to_string(path).unwrap_or_default()
        );
        text
    }
}

impl Door {
    fn wait_for(&self, tls: &Arc<ClientConfig>) -> Outcome<()> {
        let begun = Instant::now();
        loop {
            let mut conn = Conn::secure(&self.addr, "", tls);
            match conn.good("GET", "/_matrix/client/versions", "") {
                Ok(_) => return Ok(()),
                Err(error) if begun.elapsed() > Duration::from_secs(20) => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// The plain listener of the Skerry here.
    pub(crate) fn plain(&self) -> &str {
        match &self.who {
            Who::Skerry(server) | Who::Proxy(_, server) => &server.addr,
        }
    }

    /// Starts the Skerry here anew, so that nothing is left of what was before.
    pub(crate) fn restart(&mut self) -> Outcome<()> {
        match &mut self.who {
            Who::Skerry(server) | Who::Proxy(_, server) => {
                server.stop()?;
                server.start()?;
            }
        }
        Ok(())
    }

    /// Processor time of whoever speaks TLS here, in seconds.
    pub(crate) fn cpu(&self) -> Outcome<f64> {
        match &self.who {
            Who::Skerry(server) => Ok(server.usage()?.cpu),
            Who::Proxy(child, _) => family(child.id()).into_iter().map(cpu_seconds).sum(),
        }
    }

    /// Memory of all that is needed here, in MiB.
    pub(crate) fn memory(&self) -> Outcome<f64> {
        match &self.who {
            Who::Skerry(server) => Ok(server.usage()?.memory),
            Who::Proxy(child, server) => {
                let proxy: Outcome<f64> = family(child.id()).into_iter().map(memory_mib).sum();
                Ok(proxy? + server.usage()?.memory)
            }
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Who::Proxy(child, _) = &mut self.who {
            for id in family(child.id()) {
                let id = i32::try_from(id)
                    .ok()
                    .and_then(rustix::process::Pid::from_raw);
                if let Some(id) = id {
                    // Whoever is gone need not be ended.
                    let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
                }
            }
            let _ = child.wait();
        }
    }
}

/// A process and its children.
fn family(id: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
    let children = children.unwrap_or_default();
    let children = children.split_whitespace().filter_map(|id| id.parse().ok());
    std::iter::once(id).chain(children).collect()
}

/// The path of a file that every door serves.
pub(crate) fn file_name(size: &str) -> String {
    format!("file-{}.bin", size.replace(' ', ""))
}

/// Bytes that cannot be compressed, the same in each run.
fn noise(size: usize) -> Vec<u8> {
    let mut seed = 7_u64;
    let mut byte = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed.to_be_bytes()[0]
    };
    (0..size).map(|_| byte()).collect()
}

/// A port that is free at this moment; nobody else on a quiet machine will take it.
fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A connection to an address, with small writes sent at once.
pub(crate) fn connect(addr: &str) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
