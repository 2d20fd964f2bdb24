"""A small bridge made with mautrix-python, the framework of many real ones, against the real server. It makes ghosts
when they are asked for, listens through transactions, answers as its ghosts, and encrypts without ever syncing.
SKERRY_BIN names the server."""

import asyncio
import json
import logging
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request
import warnings

from mautrix.appservice import AppService
from mautrix.client import Client, MemorySyncStore
from mautrix.client.state_store import MemoryStateStore
from mautrix.crypto import MemoryCryptoStore, OlmMachine
from mautrix.errors import SessionNotFound
from mautrix.types import EventType, Membership, MessageType, RoomCreatePreset, TextMessageEventContent

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
enabled = true
"""

REGISTRATION = """
id: lamp
url: http://127.0.0.1:{port}
as_token: as-{port}
hs_token: hs-{port}
sender_localpart: lampbot
rate_limited: false
receive_ephemeral: true
de.sorunome.msc2409.push_ephemeral: true
org.matrix.msc3202: true
io.element.msc4190: true
namespaces:
  users:
    - {{ regex: '@_lamp_.*:localhost', exclusive: true }}
  aliases:
    - {{ regex: '#_lamp_.*:localhost', exclusive: true }}
"""

WITHIN = 30


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def quote(text):
    return urllib.parse.quote(text, safe="")


class Server:
    """The server as a process of its own, in a directory of its own."""

    def __init__(self):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="skerry-bridge-"))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.config = self.home / "skerry.toml"
        self.config.write_text(CONFIG.format(data=self.home / "data", port=port))
        self.start()

    def start(self):
        self.log = open(self.home / "skerry.log", "ab")
        command = [os.environ["SKERRY_BIN"], "serve", "--config", str(self.config)]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        end = time.monotonic() + 60
        while True:
            try:
                return self.call("GET", "/_matrix/client/versions")
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    def run(self, *arguments):
        command = [os.environ["SKERRY_BIN"], "--config", str(self.config), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def call(self, method, path, body=None, token=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("Content-Type", "application/json")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def end(self):
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(30)
        self.log.close()
        assert status == 0, "the server must end cleanly"

    def stop(self):
        self.end()
        shutil.rmtree(self.home)


class Person:
    """Somebody with a plain client."""

    def __init__(self, server, name):
        self.server = server
        body = {"username": name, "password": f"{name}'s password", "auth": {"type": "m.login.dummy"}}
        session = server.call("POST", "/_matrix/client/v3/register", body)
        self.id, self.token, self.device = session["user_id"], session["access_token"], session["device_id"]
        self.since = ""
        self.seen = []
        self.txn = 0

    async def call(self, method, path, body=None):
        return await asyncio.to_thread(self.server.call, method, f"/_matrix/client/v3{path}", body, self.token)

    async def say(self, room, text):
        self.txn += 1
        body = {"msgtype": "m.text", "body": text}
        sent = await self.call("PUT", f"/rooms/{quote(room)}/send/m.room.message/t{self.txn}", body)
        return sent["event_id"]

    async def sees(self, room, fits):
        """Waits for an event of a room that fits: of its timeline or state, typing, or a receipt."""
        end = time.monotonic() + WITHIN
        while True:
            for where, event in self.seen:
                if where == room and fits(event):
                    return event
            assert time.monotonic() < end, f"not seen: {self.seen}"
            synced = await self.call("GET", f"/sync?timeout=1000{self.since}")
            self.since = f"&since={quote(synced['next_batch'])}"
            for where, joined in synced.get("rooms", {}).get("join", {}).items():
                for part in ("state", "timeline", "ephemeral"):
                    self.seen += [(where, event) for event in joined.get(part, {}).get("events", [])]

    async def hears(self, room, text):
        return await self.sees(room, lambda event: event.get("content", {}).get("body") == text)


class Bridge:
    """The bridge: ghosts that echo what they hear."""

    def __init__(self, server, port):
        self.server, self.port = server, port
        self.heard = []
        self.news = asyncio.Condition()
        self.make()

    def make(self):
        self.az = AppService(
            server=self.server.url,
            domain="localhost",
            as_token=f"as-{self.port}",
            hs_token=f"hs-{self.port}",
            bot_localpart="lampbot",
            id="lamp",
            ephemeral_events=True,
            encryption_events=True,
            state_store=None,
            query_user=self.query_user,
            query_alias=self.query_alias,
        )
        self.az.matrix_event_handler(self.handle)

    async def start(self):
        await self.az.start("127.0.0.1", self.port)

    async def stop(self):
        await self.az.stop()

    async def query_user(self, user_id):
        if "nobody" in user_id:
            return None
        ghost = self.az.intent.user(user_id)
        await ghost.ensure_registered()
        await ghost.set_displayname("The " + user_id.split(":")[0].removeprefix("@_lamp_"))
        return {"made": user_id}

    async def query_alias(self, alias):
        localpart = alias.split(":")[0][1:]
        await self.az.intent.create_room(
            alias_localpart=localpart, name="The lamp room", preset=RoomCreatePreset.PUBLIC
        )
        return {"made": alias}

    async def handle(self, event):
        async with self.news:
            self.heard.append(event)
            self.news.notify_all()
        if event.type == EventType.ROOM_MEMBER and event.content.membership == Membership.INVITE:
            await self.az.intent.user(event.state_key).ensure_joined(event.room_id)
        if event.type != EventType.ROOM_MESSAGE or event.sender.startswith(("@_lamp_", "@lampbot")):
            return
        members = await self.az.intent.user("@_lamp_keeper:localhost").get_joined_members(event.room_id)
        for user_id in members:
            if user_id.startswith("@_lamp_"):
                ghost = self.az.intent.user(user_id)
                await ghost.set_typing(event.room_id, timeout=5000)
                await ghost.mark_read(event.room_id, event.event_id)
                await ghost.send_text(event.room_id, f"echo: {event.content.body}", timestamp=1234567890)

    async def hears(self, fits):
        """Waits for an event that fits."""
        async with self.news:
            await asyncio.wait_for(self.news.wait_for(lambda: any(fits(event) for event in self.heard)), WITHIN)
            return next(event for event in self.heard if fits(event))


class Store(MemoryStateStore):
    """What a machine that encrypts has to know of rooms."""

    def __init__(self, rooms):
        super().__init__()
        self.rooms = rooms

    async def find_shared_rooms(self, user_id):
        return self.rooms


class Bridges(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        # What the framework says about itself is not about the server.
        logging.getLogger("mau").setLevel(logging.CRITICAL)
        warnings.simplefilter("ignore")
        self.server = await asyncio.to_thread(Server)
        self.place = os.getcwd()
        os.chdir(self.server.home)
        port = free_port()
        registration = self.server.home / "lamp.yaml"
        registration.write_text(REGISTRATION.format(port=port))
        said = await asyncio.to_thread(self.server.run, "appservice", "register", str(registration))
        self.assertEqual(said, "registered lamp\n")
        self.bridge = Bridge(self.server, port)
        await self.bridge.start()
        self.ada = await asyncio.to_thread(Person, self.server, "ada")

    async def asyncTearDown(self):
        await self.bridge.stop()
        os.chdir(self.place)
        await asyncio.to_thread(self.server.stop)

    async def room_with_keeper(self):
        made = await self.ada.call("POST", "/createRoom", {"preset": "private_chat"})
        room = made["room_id"]
        await self.ada.call("POST", f"/rooms/{quote(room)}/invite", {"user_id": "@_lamp_keeper:localhost"})
        joined = await self.ada.sees(
            room,
            lambda event: event.get("state_key") == "@_lamp_keeper:localhost"
            and event["content"]["membership"] == "join",
        )
        self.assertEqual(joined["content"]["displayname"], "The keeper")
        return room

    async def test_ghosts_are_made_and_talk(self):
        room = await self.room_with_keeper()
        event_id = await self.ada.say(room, "is it lit?")
        typing = await self.ada.sees(
            room, lambda event: event["type"] == "m.typing" and event["content"]["user_ids"]
        )
        self.assertEqual(typing["content"]["user_ids"], ["@_lamp_keeper:localhost"])
        await self.ada.sees(
            room,
            lambda event: event["type"] == "m.receipt"
            and "@_lamp_keeper:localhost" in event["content"].get(event_id, {}).get("m.read", {}),
        )
        echo = await self.ada.hears(room, "echo: is it lit?")
        self.assertEqual(echo["sender"], "@_lamp_keeper:localhost")
        self.assertEqual(echo["origin_server_ts"], 1234567890)
        with self.assertRaises(urllib.error.HTTPError):
            await self.ada.call("GET", "/profile/@_lamp_nobody:localhost")

    async def test_typing_and_receipts_reach_the_bridge(self):
        room = await self.room_with_keeper()
        event_id = await self.ada.say(room, "hello")
        path = f"/rooms/{quote(room)}/typing/{quote(self.ada.id)}"
        await self.ada.call("PUT", path, {"typing": True, "timeout": 20000})
        typing = await self.bridge.hears(
            lambda event: event.type == EventType.TYPING and self.ada.id in event.content.user_ids
        )
        self.assertEqual(typing.room_id, room)
        await self.ada.call("POST", f"/rooms/{quote(room)}/receipt/m.read/{quote(event_id)}", {})
        await self.bridge.hears(
            lambda event: event.type == EventType.RECEIPT and event.room_id == room and event_id in event.content
        )

    async def test_rooms_are_made_by_alias_and_the_bot_is_pinged(self):
        joined = await self.ada.call("POST", f"/join/{quote('#_lamp_room:localhost')}", {})
        name = await self.ada.call("GET", f"/rooms/{quote(joined['room_id'])}/state/m.room.name")
        self.assertEqual(name["name"], "The lamp room")
        self.assertGreater(await self.bridge.az.ping_self("meow"), 0)

    async def test_nothing_is_lost_while_either_side_is_away(self):
        room = await self.room_with_keeper()
        await self.bridge.stop()
        for number in range(3):
            await self.ada.say(room, f"line {number}")
        await asyncio.to_thread(self.server.end)
        await asyncio.to_thread(self.server.start)
        self.bridge.heard.clear()
        self.bridge.make()
        await self.bridge.start()
        await self.bridge.az.ping_self()
        for number in range(3):
            await self.bridge.hears(lambda event: getattr(event.content, "body", "") == f"line {number}")
        lines = [event.content.body for event in self.bridge.heard if event.type == EventType.ROOM_MESSAGE]
        lines = [line for line in lines if line.startswith("line")]
        self.assertEqual(lines, ["line 0", "line 1", "line 2"])
        listed = await asyncio.to_thread(self.server.run, "appservice", "list")
        self.assertIn("@lampbot:localhost", listed)

    async def test_the_bot_encrypts_without_syncing(self):
        made = await self.ada.call(
            "POST",
            "/createRoom",
            {
                "invite": ["@lampbot:localhost"],
                "initial_state": [
                    {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}},
                ],
            },
        )
        room = made["room_id"]
        await self.bridge.az.intent.ensure_joined(room)

        # The bot: a device that is made without a log-in (MSC4190), and told of all it needs (MSC3202).
        bot = Client(base_url=self.server.url, mxid=self.bridge.az.bot_mxid)
        bot.api.token = self.bridge.az.as_token
        bot_store = Store([room])
        bot_crypto = OlmMachine(bot, MemoryCryptoStore("bot", "key"), bot_store)
        self.bridge.az.otk_handler = bot_crypto.handle_as_otk_counts
        self.bridge.az.device_list_handler = bot_crypto.handle_as_device_lists
        self.bridge.az.to_device_handler = bot_crypto.handle_as_to_device_event
        await bot.create_device_msc4190("LAMPBOT", "the bridge")
        await bot_crypto.load()
        await bot_crypto.share_keys()

        # Ada, with a client that syncs.
        ada = Client(
            base_url=self.server.url,
            mxid=self.ada.id,
            device_id=self.ada.device,
            token=self.ada.token,
            sync_store=MemorySyncStore(),
        )
        ada_store = Store([room])
        ada_crypto = OlmMachine(ada, MemoryCryptoStore("ada", "key"), ada_store)
        await ada_crypto.load()
        await ada_crypto.share_keys()
        heard = asyncio.Queue()

        async def decrypt(event):
            heard.put_nowait(await ada_crypto.decrypt_megolm_event(event))

        ada.add_event_handler(EventType.ROOM_ENCRYPTED, decrypt)
        encryption = await ada.get_state_event(room, EventType.ROOM_ENCRYPTION)
        for store in (bot_store, ada_store):
            await store.set_encryption_info(room, encryption)
        syncing = ada.start(None)
        try:
            await ada_crypto.share_group_session(room, [self.ada.id, bot.mxid])
            content = TextMessageEventContent(msgtype=MessageType.TEXT, body="a secret")
            encrypted = await ada_crypto.encrypt_megolm_event(room, EventType.ROOM_MESSAGE, content)
            await ada.send_message_event(room, EventType.ROOM_ENCRYPTED, encrypted)
            event = await self.bridge.hears(lambda event: event.type == EventType.ROOM_ENCRYPTED)
            try:
                plain = await bot_crypto.decrypt_megolm_event(event)
            except SessionNotFound:
                await bot_crypto.wait_for_session(room, event.content.session_id, timeout=WITHIN)
                plain = await bot_crypto.decrypt_megolm_event(event)
            self.assertEqual(plain.content.body, "a secret")

            await bot_crypto.share_group_session(room, [self.ada.id, bot.mxid])
            content = TextMessageEventContent(msgtype=MessageType.TEXT, body="well kept")
            encrypted = await bot_crypto.encrypt_megolm_event(room, EventType.ROOM_MESSAGE, content)
            await bot.send_message_event(room, EventType.ROOM_ENCRYPTED, encrypted)
            while (await asyncio.wait_for(heard.get(), WITHIN)).content.body != "well kept":
                pass
        finally:
            ada.stop()
            syncing.cancel()
            await ada.api.session.close()
            await bot.api.session.close()


if __name__ == "__main__":
    unittest.main()
