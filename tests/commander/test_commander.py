"""matrix-commander, a command-line client people use, against the real server: log in, send, receive, upload and
download a file, in a plain and in an encrypted room. SKERRY_BIN names the server, COMMANDER the client."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request

CONFIG = """
server_name = "localhost"
data_dir = "{data}"
[[listen]]
addr = "127.0.0.1:{port}"
[registration]
open = true
[password]
cost = "minimal"
[rate_limit]
enabled = false
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """The server as a process of its own, in a directory of its own."""

    def __init__(self):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="skerry-commander-"))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        config = self.home / "skerry.toml"
        config.write_text(CONFIG.format(data=self.home / "data", port=port))
        self.log = open(self.home / "skerry.log", "wb")
        self.process = subprocess.Popen(
            [os.environ["SKERRY_BIN"], "serve", "--config", str(config)], stdout=self.log, stderr=self.log
        )
        self.wait_until_it_answers()

    def wait_until_it_answers(self):
        end = time.monotonic() + 60
        while True:
            try:
                return self.call("GET", "/_matrix/client/versions")
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    def call(self, method, path, body=None, token=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("Content-Type", "application/json")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def register(self, name):
        body = {"username": name, "password": f"{name}'s password", "auth": {"type": "m.login.dummy"}}
        return self.call("POST", "/_matrix/client/v3/register", body)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(30)
        self.log.close()
        shutil.rmtree(self.home)
        assert status == 0, "the server must end cleanly"


class Person:
    """One account with a credentials file and a store of its own for the client."""

    def __init__(self, server, name):
        self.server, self.name = server, name
        self.token = server.register(name)["access_token"]
        self.home = server.home / name
        self.home.mkdir()

    def commander(self, *arguments, check=True):
        command = [os.environ.get("COMMANDER", "matrix-commander"), "-c", str(self.home / "credentials.json")]
        command += ["-s", str(self.home / "store"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=self.home)
        if check and done.returncode != 0:
            raise AssertionError(f"{self.name}: {arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def log_in(self, room):
        self.commander(
            "--login", "PASSWORD", "--device", f"{self.name}'s terminal", "--user-login", f"@{self.name}:localhost",
            "--password", f"{self.name}'s password", "--homeserver", self.server.url, "--room-default", room,
        )  # fmt: skip

    def hears(self, text, *options):
        """Listens once at a time until `text` has been printed."""
        end, heard = time.monotonic() + 60, ""
        while text not in heard:
            if time.monotonic() > end:
                raise AssertionError(f"{self.name} never heard {text!r}, but:\n{heard}")
            heard += self.commander("--listen", "ONCE", *options)
        return heard


class Commander(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.stop)
        cls.ada, cls.grace = Person(cls.server, "ada"), Person(cls.server, "grace")
        cls.plain, cls.secret = cls.room(encrypted=False), cls.room(encrypted=True)
        cls.ada.log_in(cls.plain)
        cls.grace.log_in(cls.plain)
        for person in (cls.ada, cls.grace):
            # the client shows nothing of what came before its first sync, and each device must know of the other
            # before the first encrypted message
            person.commander("--listen", "ONCE")

    @classmethod
    def room(cls, encrypted):
        state = [{"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}] if encrypted else []
        # this client does not know the room ids of version 12, which name no server
        body = {"room_version": "11", "preset": "private_chat", "invite": ["@grace:localhost"], "initial_state": state}
        room = cls.server.call("POST", "/_matrix/client/v3/createRoom", body, cls.ada.token)["room_id"]
        cls.server.call("POST", f"/_matrix/client/v3/rooms/{room}/join", {}, cls.grace.token)
        return room

    def talk(self, room):
        self.ada.commander("--room", room, "--message", f"the lamp is lit in {room}")
        self.grace.hears(f"the lamp is lit in {room}")
        self.grace.commander("--room", room, "--message", f"I see it in {room}")
        self.ada.hears(f"I see it in {room}")

    def send_file(self, room):
        bytes_sent = os.urandom(50_000)
        name = f"tides-{'secret' if room == self.secret else 'plain'}.bin"
        (self.ada.home / name).write_bytes(bytes_sent)
        if room == self.secret:
            self.ada.commander("--room", room, "--file", name)
        else:
            # on its own this client encrypts a file for a plain room too, and then cannot read it there
            content = {"msgtype": "m.file", "body": name, "url": self.upload(name)}
            event = self.ada.home / "event.json"
            event.write_text(json.dumps({"type": "m.room.message", "content": content}))
            self.ada.commander("--room", room, "--event", str(event))
        target = self.grace.home / "media"
        target.mkdir(exist_ok=True)
        self.grace.hears(name, "--download-media", str(target), "--download-media-name", "clean")
        fetched = [path.read_bytes() for path in target.iterdir() if path.name.startswith(name.split(".")[0])]
        self.assertIn(bytes_sent, fetched)

    def upload(self, name):
        said = self.ada.commander("--upload", name, "--plain")
        return next(word for word in said.split() if word.startswith("mxc://"))

    def test_talk_in_a_plain_room(self):
        self.talk(self.plain)

    def test_talk_in_an_encrypted_room(self):
        self.talk(self.secret)

    def test_a_file_in_a_plain_room(self):
        self.send_file(self.plain)

    def test_a_file_in_an_encrypted_room(self):
        self.send_file(self.secret)

    def test_upload_and_download(self):
        (self.ada.home / "chart.txt").write_text("here be seals")
        uri = self.upload("chart.txt")
        self.grace.commander("--download", uri, "--plain", "--file-name", "chart-copy.txt")
        self.assertEqual((self.grace.home / "chart-copy.txt").read_text(), "here be seals")


if __name__ == "__main__":
    unittest.main()
