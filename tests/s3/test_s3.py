"""Media in an object store: the real server beside moto, an S3 server from PyPI that checks every signature. Between the
two lies a line that the tests can cut. SKERRY_BIN names the server."""

import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
import zlib

import boto3

CONFIG = """
server_name = "localhost"
data_dir = "{home}/data"
[[listen]]
addr = "127.0.0.1:{port}"
[registration]
open = true
[password]
cost = "minimal"
[rate_limit]
enabled = false
[media]
backend = "s3"
[media.s3]
endpoint = "http://127.0.0.1:{s3_port}"
bucket = "pictures"
prefix = "skerry/media"
region = "eu-west-1"
access_key_file = "{home}/access"
secret_key_file = "{home}/secret"
"""

WITHIN = 60
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, told):
    """Waits until `told()` is true and gives what it is."""
    end = time.monotonic() + WITHIN
    while not (found := told()):
        if time.monotonic() > end:
            raise AssertionError(f"in {WITHIN} s there was no {what}")
        time.sleep(0.05)
    return found


def picture(width, height):
    """A PNG that is larger than its thumbnails."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes((x * y + c) % 256 for x in range(width) for c in range(3)) for y in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def hang_up(end):
    """Wakes whoever reads from it as well."""
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class Line:
    """Forwards connections to a port, unless it is cut."""

    def __init__(self, target):
        self.target, self.port, self.open = target, free_port(), set()
        self.lock = threading.Lock()
        self.mend()

    def mend(self):
        listener = socket.create_server(("127.0.0.1", self.port))
        self.listener = listener
        threading.Thread(target=self.accept, args=(listener,), daemon=True).start()

    def cut(self):
        # Wakes whoever accepts; closing alone does not.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            for end in self.open:
                hang_up(end)
            self.open.clear()

    def accept(self, listener):
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.target))
            with self.lock:
                self.open |= {near, far}
            for ends in ((near, far), (far, near)):
                threading.Thread(target=self.forward, args=ends, daemon=True).start()

    def forward(self, source, sink):
        try:
            while piece := source.recv(1 << 16):
                sink.sendall(piece)
        except OSError:
            pass
        for end in (source, sink):
            hang_up(end)
            end.close()


class ObjectStore:
    """moto in a process of its own, with one bucket and one person who may use it."""

    def __init__(self, home):
        self.port = free_port()
        # So many requests are free: those that make the person.
        environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "3"}
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self.log = open(home / "moto.log", "ab")
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log)
        until("S3 server", self.answers)
        iam = self.client("iam", "free", "free")
        iam.create_user(UserName="skerry")
        iam.put_user_policy(UserName="skerry", PolicyName="all", PolicyDocument=json.dumps(EVERYTHING))
        key = iam.create_access_key(UserName="skerry")["AccessKey"]
        self.key, self.secret = key["AccessKeyId"], key["SecretAccessKey"]
        self.s3 = self.client("s3", self.key, self.secret)
        self.s3.create_bucket(Bucket="pictures", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})

    def answers(self):
        try:
            return socket.create_connection(("127.0.0.1", self.port), timeout=1).close() is None
        except OSError:
            return False

    def client(self, service, key, secret):
        url = f"http://127.0.0.1:{self.port}"
        names = {"aws_access_key_id": key, "aws_secret_access_key": secret, "region_name": "eu-west-1"}
        return boto3.client(service, endpoint_url=url, **names)

    def objects(self):
        """The names and sizes of all blobs."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket="pictures", Prefix="skerry/media/")
        listed = [found for page in pages for found in page.get("Contents", [])]
        return {found["Key"]: found["Size"] for found in listed if not found["Key"].endswith("skerry-owner")}

    def put(self, name, data):
        self.s3.put_object(Bucket="pictures", Key=f"skerry/media/{name}", Body=data)

    def delete(self, name):
        self.s3.delete_object(Bucket="pictures", Key=name)

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


class Server:
    """Skerry as a process of its own."""

    def __init__(self, home, store, line):
        self.home, self.port = home, free_port()
        (home / "access").write_text(store.key + "\n")
        (home / "secret").write_text(store.secret + "\n")
        self.config = home / "skerry.toml"
        self.config.write_text(CONFIG.format(home=home, port=self.port, s3_port=line.port))
        self.start()

    def start(self):
        self.log = open(self.home / "skerry.log", "ab")
        command = [os.environ["SKERRY_BIN"], "serve", "--config", str(self.config)]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        until("server", self.answers)

    def answers(self):
        assert self.process.poll() is None, (self.home / "skerry.log").read_text()
        try:
            return self.ask("GET", "/_matrix/client/versions")[0] == 200
        except OSError:
            return False

    def ask(self, method, path, data=None, token=None, **headers):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data, method=method)
        for name, value in headers.items():
            request.add_header(name, value)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=WITHIN) as answer:
                return answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read(), answer.headers

    def prune(self, *arguments):
        command = [os.environ["SKERRY_BIN"], "--config", str(self.config), "media", "prune", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def end(self):
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(30)
        self.log.close()
        assert status == 0, "the server must end cleanly"

    def kill(self):
        self.process.kill()
        self.process.wait(30)
        self.log.close()


class S3(unittest.TestCase):
    def setUp(self):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="skerry-s3-"))
        self.addCleanup(shutil.rmtree, self.home)
        self.store = ObjectStore(self.home)
        self.addCleanup(self.store.stop)
        self.line = Line(self.store.port)
        self.addCleanup(self.line.cut)
        self.server = Server(self.home, self.store, self.line)
        body = json.dumps({"username": "alice", "password": "alice's", "auth": {"type": "m.login.dummy"}})
        status, body, _ = self.server.ask("POST", "/_matrix/client/v3/register", body.encode())
        self.assertEqual(status, 200, body)
        self.token = json.loads(body)["access_token"]

    def tearDown(self):
        self.server.end()

    def upload(self, data, kind="application/octet-stream"):
        return self.server.ask("POST", "/_matrix/media/v3/upload", data, self.token, **{"Content-Type": kind})

    def kept(self, data, kind="application/octet-stream"):
        status, body, _ = self.upload(data, kind)
        self.assertEqual(status, 200, body)
        return json.loads(body)["content_uri"].removeprefix("mxc://")

    def download(self, mxc, **headers):
        return self.server.ask("GET", f"/_matrix/client/v1/media/download/{mxc}", None, self.token, **headers)

    def spool(self):
        return list((self.home / "data/media/spool").iterdir())

    def test_files_come_back_whole_and_in_parts(self):
        small, large = b"a few bytes", os.urandom(12_000_000)
        names = {data: self.kept(data) for data in (small, large, b"")}
        for data, mxc in names.items():
            status, body, headers = self.download(mxc)
            self.assertEqual((status, body, headers["Content-Length"]), (200, data, str(len(data))))
        for asked, start, end in (("bytes=5999990-6000009", 5_999_990, 6_000_010), ("bytes=-7", -7, None)):
            status, body, headers = self.download(names[large], Range=asked)
            self.assertEqual((status, body), (206, large[start:end]))
            self.assertTrue(headers["Content-Range"].endswith("/12000000"))
        self.assertEqual(self.download(names[large], Range="bytes=12000000-")[0], 416)
        tag = self.download(names[small])[2]["ETag"]
        self.assertEqual(self.download(names[small], **{"If-None-Match": tag})[0], 304)
        self.assertEqual(sorted(self.store.objects().values()), [0, 11, 12_000_000])
        self.assertEqual(self.spool(), [])
        # Nothing of it is known by heart.
        self.server.end()
        self.server.start()
        for data, mxc in names.items():
            self.assertEqual(self.download(mxc)[1], data)

    def test_equal_files_are_one_object_that_goes_with_its_last_name(self):
        first, second = self.kept(b"the same"), self.kept(b"the same")
        other = self.kept(b"another")
        self.assertEqual(sorted(self.store.objects().values()), [7, 8])
        self.server.prune("--local", "--older-than", "0s", "--yes")
        # They lie in the trash, and in the bucket.
        self.assertEqual(self.download(first)[0], 404)
        self.assertEqual(len(self.store.objects()), 2)
        self.server.prune("--restore", f"mxc://{second}")
        self.server.prune("--empty-trash", "--yes")
        self.assertEqual(list(self.store.objects().values()), [8])
        self.assertEqual(self.download(second)[1], b"the same")
        self.assertEqual((self.download(first)[0], self.download(other)[0]), (404, 404))

    def test_thumbnails_are_made_once_and_need_the_store_no_more(self):
        mxc = self.kept(picture(900, 700), "image/png")
        path = f"/_matrix/client/v1/media/thumbnail/{mxc}?width=96&height=96&method=crop"
        status, made, _ = self.server.ask("GET", path, None, self.token)
        self.assertEqual(status, 200, made)
        self.line.cut()
        self.assertEqual(self.server.ask("GET", path, None, self.token)[:2], (200, made))
        self.line.mend()

    def test_what_does_not_fit_together_is_found(self):
        lost, kept = self.kept(b"will be lost"), self.kept(b"stays")
        orphan = "aa/bb/" + "0" * 60
        self.store.put(orphan, b"nobody's")
        self.store.put("a letter", b"of somebody else")
        self.store.delete(next(name for name, size in self.store.objects().items() if size == 12))
        said = json.loads(self.server.prune("--check", "--dry-run", "--json"))["report"]["orphans"]
        self.assertEqual((said["files"], said["lost"]), (1, [f"mxc://{lost}"]))
        self.server.prune("--check", "--yes")
        self.assertEqual(sorted(self.store.objects().values()), [5, 16])
        self.assertEqual((self.download(lost)[0], self.download(kept)[0]), (404, 200))
        self.kept(b"will be lost")
        self.assertEqual(self.download(lost)[1], b"will be lost")
        # A start looks for orphans as well, beside everything else.
        self.server.end()
        self.store.put(orphan, b"nobody's")
        self.server.start()
        until("sweep", lambda: sorted(self.store.objects().values()) == [5, 12, 16])

    def test_corrupt_objects_are_set_aside(self):
        mxc = self.kept(b"good bytes")
        self.store.put(next(iter(self.store.objects())).removeprefix("skerry/media/"), b"evil bytes")
        command = [os.environ["SKERRY_BIN"], "--config", str(self.server.config), "media", "prune", "--verify"]
        self.assertEqual(subprocess.run(command, capture_output=True, timeout=WITHIN).returncode, 1)
        self.assertEqual(self.download(mxc)[0], 404)
        self.assertTrue(all("/corrupt/" in name for name in self.store.objects()))
        self.kept(b"good bytes")
        self.assertEqual(self.download(mxc)[1], b"good bytes")

    def test_while_the_store_is_away_nothing_is_taken_and_nothing_lost(self):
        before = self.kept(b"before")
        self.line.cut()
        status, body, _ = self.upload(b"during")
        self.assertEqual((status, json.loads(body)["errcode"]), (503, "M_UNKNOWN"))
        status, body, _ = self.download(before)
        self.assertEqual((status, json.loads(body)["errcode"]), (503, "M_UNKNOWN"))
        self.assertEqual(self.spool(), [])
        # The rest of the server goes on, also through a start.
        self.server.kill()
        self.server.start()
        self.assertEqual(self.server.ask("GET", "/_matrix/client/v3/account/whoami", None, self.token)[0], 200)
        self.line.mend()
        self.assertEqual(self.download(before)[1], b"before")
        after = self.kept(b"during")
        self.assertEqual(self.download(after)[1], b"during")
        self.assertEqual(sorted(self.store.objects().values()), [6, 6])

    def test_a_kill_loses_nothing_that_was_acknowledged(self):
        names = {}
        for turn in range(3):
            threads, taken = [], {}
            for n in range(4):
                data = os.urandom(6_000_000 if n == 0 else 20_000)
                threads.append(threading.Thread(target=self.try_upload, args=(data, taken)))
            for thread in threads:
                thread.start()
            # At another moment each time: once the first, the second, ... was acknowledged.
            until("acknowledged upload", lambda: len(taken) > turn)
            self.server.kill()
            for thread in threads:
                thread.join()
            names |= taken
            self.server.start()
            for mxc, data in names.items():
                self.assertEqual(self.download(mxc)[1], data)
        self.assertEqual(self.spool(), [])

    def try_upload(self, data, taken):
        try:
            status, body, _ = self.upload(data)
        except (OSError, EOFError, urllib.error.URLError):
            return
        if status == 200:
            taken[json.loads(body)["content_uri"].removeprefix("mxc://")] = data


if __name__ == "__main__":
    unittest.main()
