"""What clients do for an encrypted conversation, without the cryptography: keys that are found, checked and claimed,
room keys to every device, encrypted events, in rooms made on either side."""

import unittest

from homes import until
from signedjson.key import decode_verify_key_bytes
from signedjson.sign import verify_signed_json
from test_people import publish_keys, published
from unpaddedbase64 import decode_base64
from world import World

ENCRYPTION = {"algorithm": "m.megolm.v1.aes-sha2"}


def log_in(person):
    """A second device of somebody."""
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": person.id},
        "password": "a long enough word",
    }
    return type(person)(person.home, person.home.call("POST", "/_matrix/client/v3/login", body))


def claim(asker, owner):
    """One of a device's one-time keys, with a signature that the asker checks as a client does."""
    wanted = {"one_time_keys": {owner.id: {owner.device: "signed_curve25519"}}}
    keys = asker.call("POST", "v3/keys/claim", wanted)["one_time_keys"][owner.id][owner.device]
    (key,) = keys.values()
    device = published(asker, owner)
    name = f"ed25519:{owner.device}"
    verify = decode_verify_key_bytes(name, decode_base64(device["keys"][name]))
    verify_signed_json(key, owner.id, verify)
    verify_signed_json({k: v for k, v in device.items() if k != "unsigned"}, owner.id, verify)
    return key["key"]


def room_key(asker, owners, room, session):
    """Sends a room key to devices, each encrypted for it alone."""
    messages = {}
    for owner in owners:
        secret = {
            "algorithm": "m.olm.v1.curve25519-aes-sha2",
            "sender_key": claim(asker, owner),
            "ciphertext": {owner.device: {"type": 0, "body": f"{session} for {owner.device} in {room}"}},
        }
        messages.setdefault(owner.id, {})[owner.device] = secret
    asker.count += 1
    path = f"v3/sendToDevice/m.room.encrypted/{asker.device}-{asker.count}"
    asker.call("PUT", path, {"messages": messages})
    return {owner.device: messages[owner.id][owner.device] for owner in owners}


def keys_of(owner):
    events = owner.sync().get("to_device", {}).get("events", [])
    return [(e["sender"], e["content"]) for e in events if e["type"] == "m.room.encrypted"]


class Encrypted(World):
    def test_an_encrypted_conversation(self):
        for ours in (True, False):
            with self.subTest(made_on="skerry" if ours else "synapse"):
                maker, guest = self.pair(ours)
                state = [{"type": "m.room.encryption", "state_key": "", "content": ENCRYPTION}]
                room = self.shared_room(maker, guest, initial_state=state)
                self.assertEqual(guest.state(room, "m.room.encryption"), ENCRYPTION)
                for person in (maker, guest):
                    publish_keys(person)
                self.talk(maker, [guest], room)
                self.talk(guest, [maker], room)
                # A new device is noticed, and gets the next keys too.
                since = maker.sync()["next_batch"]
                phone = log_in(guest)
                publish_keys(phone)
                noticed = lambda: guest.id in maker.sync(since=since).get("device_lists", {}).get("changed", [])
                until(noticed, "the new device is noticed")
                self.talk(maker, [guest, phone], room)
                self.talk(phone, [maker], room)

    def talk(self, teller, listeners, room):
        for listener in listeners:
            until(lambda: published(teller, listener), f"the keys of {listener.device} are found")
        session = f"session-{teller.device}-{teller.count}"
        secrets = room_key(teller, listeners, room, session)
        content = {
            **ENCRYPTION,
            "ciphertext": f"said by {teller.id}",
            "session_id": session,
            "sender_key": teller.device,
            "device_id": teller.device,
        }
        said = teller.send(room, content, "m.room.encrypted")
        for listener in listeners:
            arrived = lambda: (teller.id, secrets[listener.device]) in keys_of(listener)
            until(arrived, f"the room key comes to {listener.device}")
            event = listener.sees(room, said)
            self.assertEqual((event["type"], event["content"]), ("m.room.encrypted", content))


if __name__ == "__main__":
    unittest.main()
