"""Two homeservers on this machine that know each other: Skerry and Synapse, each a process in a folder of its own,
speaking federation over TLS under certificates of the test's own authority."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor

STARTS_WITHIN = 90
ENDS_WITHIN = 30
#: How long anything may take that has to travel from one server to the other.
ARRIVES_WITHIN = 45

SKERRY_CONFIG = """
server_name = "{name}"
data_dir = "{home}/data"
[[listen]]
addr = "127.0.0.1:{client_port}"
[[listen]]
addr = "127.0.0.1:{federation_port}"
tls = {{ cert = "{cert}", key = "{key}" }}
[registration]
open = true
[federation]
ca_file = "{ca}"
allow_private_addresses = true
[room_directory]
public_over_federation = true
[password]
cost = "minimal"
[rate_limit]
enabled = false
[log]
level = "debug"
"""

SYNAPSE_CONFIG = """
server_name: "{name}"
pid_file: {home}/synapse.pid
public_baseurl: http://127.0.0.1:{client_port}/
listeners:
  - port: {client_port}
    bind_addresses: ['127.0.0.1']
    type: http
    resources: [{{names: [client, federation]}}]
  - port: {federation_port}
    bind_addresses: ['127.0.0.1']
    type: http
    tls: true
    resources: [{{names: [client, federation]}}]
tls_certificate_path: "{cert}"
tls_private_key_path: "{key}"
federation_custom_ca_list: ["{ca}"]
federation_ip_range_blacklist: []
ip_range_blacklist: []
database: {{name: sqlite3, args: {{database: "{home}/homeserver.db"}}}}
log_config: "{home}/log.yaml"
media_store_path: "{home}/media"
signing_key_path: "{home}/signing.key"
trusted_key_servers: []
suppress_key_server_warning: true
report_stats: false
enable_registration: true
enable_registration_without_verification: true
allow_public_rooms_over_federation: true
allow_public_rooms_without_auth: true
room_list_publication_rules: [{{action: allow}}]
bcrypt_rounds: 4
caches: {{sync_response_cache_duration: 0}}
macaroon_secret_key: peer
form_secret: peer
presence: {{enabled: true}}
federation:
  min_retry_interval: 1s
  max_short_retry_delay: 1s
  max_short_retries: 1
  destination_min_retry_interval: 1s
  destination_max_retry_interval: 5s
rc_message: {{per_second: 9999, burst_count: 9999}}
rc_registration: {{per_second: 9999, burst_count: 9999}}
rc_login:
  address: {{per_second: 9999, burst_count: 9999}}
  account: {{per_second: 9999, burst_count: 9999}}
  failed_attempts: {{per_second: 9999, burst_count: 9999}}
rc_joins:
  local: {{per_second: 9999, burst_count: 9999}}
  remote: {{per_second: 9999, burst_count: 9999}}
rc_joins_per_room: {{per_second: 9999, burst_count: 9999}}
rc_invites:
  per_room: {{per_second: 9999, burst_count: 9999}}
  per_user: {{per_second: 9999, burst_count: 9999}}
  per_issuer: {{per_second: 9999, burst_count: 9999}}
rc_presence:
  per_user: {{per_second: 9999, burst_count: 9999}}
rc_federation: {{window_size: 1000, sleep_limit: 9999, sleep_delay: 1, reject_limit: 9999, concurrent: 99}}
"""

SYNAPSE_LOG = """
version: 1
formatters: {{plain: {{format: '%(asctime)s %(levelname)s %(name)s %(message)s'}}}}
handlers: {{file: {{class: logging.FileHandler, filename: '{home}/synapse.log', formatter: plain}}}}
root: {{level: INFO, handlers: [file]}}
disable_existing_loggers: false
"""


class Refused(Exception):
    """An answer that is not 200."""

    def __init__(self, status, body):
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body
        self.errcode = body.get("errcode") if isinstance(body, dict) else None


def free_ports(count):
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def quote(text):
    return urllib.parse.quote(text, safe="")


def until(look, what, within=ARRIVES_WITHIN):
    """Looks until there is something; gives it."""
    end = time.monotonic() + within
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(0.1)


class Home:
    """A homeserver as a process of its own."""

    def __init__(self, kind, host, folder, authority):
        self.kind = kind
        self.host = host
        self.home = folder / kind
        self.home.mkdir()
        self.client_port, self.federation_port = free_ports(2)
        self.name = f"{host}:{self.federation_port}"
        self.url = f"http://127.0.0.1:{self.client_port}"
        cert, key = authority.issue(kind)
        self.values = {
            "name": self.name,
            "home": self.home,
            "client_port": self.client_port,
            "federation_port": self.federation_port,
            "cert": cert,
            "key": key,
            "ca": authority.file,
        }
        self.process = None
        self.prepare()
        self.start()

    def start(self):
        self.log = open(self.home / "output.log", "ab")
        self.process = subprocess.Popen(self.command(), stdout=self.log, stderr=self.log, cwd=self.home)
        end = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                return self.call("GET", "/_matrix/client/versions")
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise
                time.sleep(0.1)

    def stop(self):
        # not SIGINT: programs that are started in the background may be made to ignore it
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(ENDS_WITHIN)
        self.log.close()
        return status

    def call(self, method, path, body=None, token=None, data=None, headers=None, raw=False, timeout=60):
        if body is not None:
            data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                content = answer.read()
                return content if raw else json.loads(content)
        except urllib.error.HTTPError as error:
            content = error.read()
            try:
                content = json.loads(content)
            except ValueError:
                pass
            raise Refused(error.code, content) from None

    def register(self, name):
        body = {"username": name, "password": "a long enough word", "auth": {"type": "m.login.dummy"}}
        return Person(self, self.call("POST", "/_matrix/client/v3/register", body))


class Skerry(Home):
    def __init__(self, folder, authority):
        super().__init__("skerry", "localhost", folder, authority)

    def prepare(self):
        self.config = self.home / "skerry.toml"
        self.config.write_text(SKERRY_CONFIG.format(**self.values))

    def command(self):
        return [os.environ["SKERRY_BIN"], "serve", "--config", str(self.config)]


class Synapse(Home):
    def __init__(self, folder, authority):
        super().__init__("synapse", "127.0.0.1", folder, authority)

    def prepare(self):
        self.config = self.home / "homeserver.yaml"
        self.config.write_text(SYNAPSE_CONFIG.format(**self.values))
        (self.home / "log.yaml").write_text(SYNAPSE_LOG.format(**self.values))
        subprocess.run([*self.command(), "--generate-keys"], check=True, cwd=self.home, capture_output=True)

    def command(self):
        return [sys.executable, "-m", "synapse.app.homeserver", "--config-path", str(self.config)]


class Person:
    """Somebody with an account and a device."""

    def __init__(self, home, registered):
        self.home = home
        self.id = registered["user_id"]
        self.token = registered["access_token"]
        self.device = registered["device_id"]
        self.count = 0
        self.since = None

    def call(self, method, path, body=None, **more):
        return self.home.call(method, f"/_matrix/client/{path}", body, token=self.token, **more)

    def sync(self, timeout_ms=0, since=None, filter=None):
        query = {"timeout": timeout_ms}
        if since:
            query["since"] = since
        if filter:
            query["filter"] = json.dumps(filter)
        return self.call("GET", "v3/sync?" + urllib.parse.urlencode(query), timeout=60 + timeout_ms / 1000)

    def create(self, **body):
        return self.call("POST", "v3/createRoom", body)["room_id"]

    def join(self, room, via=()):
        query = urllib.parse.urlencode([("via", server) for server in via] + [("server_name", server) for server in via])
        return self.call("POST", f"v3/join/{quote(room)}?{query}", {})["room_id"]

    def knock(self, room, via=()):
        query = urllib.parse.urlencode([("via", server) for server in via] + [("server_name", server) for server in via])
        return self.call("POST", f"v3/knock/{quote(room)}?{query}", {})["room_id"]

    def room(self, room, action, body=None, method="POST"):
        return self.call(method, f"v3/rooms/{quote(room)}/{action}", {} if body is None and method != "GET" else body)

    def invite(self, room, person):
        return self.room(room, "invite", {"user_id": person.id})

    def leave(self, room):
        return self.room(room, "leave")

    def send(self, room, content, kind="m.room.message"):
        self.count += 1
        path = f"v3/rooms/{quote(room)}/send/{kind}/{self.device}-{self.count}"
        return self.call("PUT", path, content)["event_id"]

    def say(self, room, text, **more):
        return self.send(room, {"msgtype": "m.text", "body": text, **more})

    def set(self, room, kind, content, key=""):
        return self.call("PUT", f"v3/rooms/{quote(room)}/state/{kind}/{quote(key)}", content)["event_id"]

    def state(self, room, kind, key=""):
        try:
            return self.call("GET", f"v3/rooms/{quote(room)}/state/{kind}/{quote(key)}")
        except Refused as refused:
            if refused.status in (403, 404):
                return None
            raise

    def membership(self, room, person):
        member = self.state(room, "m.room.member", person.id)
        return member and member.get("membership")

    def event(self, room, event_id):
        try:
            return self.call("GET", f"v3/rooms/{quote(room)}/event/{quote(event_id)}")
        except Refused as refused:
            if refused.status in (403, 404):
                return None
            raise

    def sees(self, room, event_id):
        return until(lambda: self.event(room, event_id), f"{self.id} sees {event_id}")

    def history(self, room, limit=100):
        """All events of a room that can be paged back to, newest first."""
        events, start = [], None
        for _ in range(50):
            query = {"dir": "b", "limit": limit}
            if start:
                query["from"] = start
            page = self.call("GET", f"v3/rooms/{quote(room)}/messages?" + urllib.parse.urlencode(query))
            events += page["chunk"]
            start = page.get("end")
            if not start:
                break
        return events

    def bodies(self, room):
        return [e["content"]["body"] for e in self.history(room) if "body" in e.get("content", {})]

    def is_in(self, room):
        return room in self.call("GET", "v3/joined_rooms")["joined_rooms"]


def side_by_side(*works):
    """Runs functions at the same time; gives what they give."""
    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(lambda work: work(), works))
