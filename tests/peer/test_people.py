"""What people do beside talking, between Skerry and Synapse: receipts, typing, presence, keys, messages to devices."""

import unittest

from homes import until
from signedjson.key import encode_verify_key_base64, generate_signing_key, get_verify_key
from signedjson.sign import sign_json
from world import World


def publish_keys(person):
    """Identity keys and one-time keys of a person's device, signed as a client signs them."""
    key = generate_signing_key(person.device)
    public = encode_verify_key_base64(get_verify_key(key))
    keys = {
        "user_id": person.id,
        "device_id": person.device,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": {f"ed25519:{person.device}": public, f"curve25519:{person.device}": public},
    }
    one_time = {f"signed_curve25519:AAAA{n}": sign_json({"key": public}, person.id, key) for n in range(3)}
    person.call(
        "POST", "v3/keys/upload", {"device_keys": sign_json(keys, person.id, key), "one_time_keys": one_time}
    )
    return public


def published(asker, person):
    answer = asker.call("POST", "v3/keys/query", {"device_keys": {person.id: []}, "timeout": 10_000})
    return answer["device_keys"].get(person.id, {}).get(person.device)


class People(World):
    def both_ways(self):
        for ours in (True, False):
            maker, guest = self.pair(ours)
            yield maker, guest, self.shared_room(maker, guest)

    def test_receipts_and_typing(self):
        for maker, guest, room in self.both_ways():
            for teller, listener in ((maker, guest), (guest, maker)):
                said = listener.say(room, "read this")
                teller.sees(room, said)
                teller.room(room, f"receipt/m.read/{said}", {})

                def receipt():
                    events = listener.sync()["rooms"]["join"][room]["ephemeral"]["events"]
                    marks = [e["content"].get(said, {}) for e in events if e["type"] == "m.receipt"]
                    return any(teller.id in mark.get("m.read", {}) for mark in marks)

                until(receipt, "the receipt arrives")
                teller.room(room, f"typing/{teller.id}", {"typing": True, "timeout": 30_000}, method="PUT")

                def typing():
                    events = listener.sync()["rooms"]["join"][room]["ephemeral"]["events"]
                    return any(teller.id in e["content"]["user_ids"] for e in events if e["type"] == "m.typing")

                until(typing, "the typing arrives")

    def test_presence(self):
        for maker, guest, _ in self.both_ways():
            for teller, listener in ((maker, guest), (guest, maker)):
                with self.subTest(made_on=maker.home.kind, teller=teller.home.kind):
                    status = {"presence": "online", "status_msg": f"at sea {teller.id}"}
                    teller.call("PUT", f"v3/presence/{teller.id}/status", status)

                    def seen():
                        events = listener.sync().get("presence", {}).get("events", [])
                        said = [e["content"].get("status_msg") for e in events if e["sender"] == teller.id]
                        return status["status_msg"] in said

                    until(seen, "the presence arrives")

    def test_keys_and_messages_to_devices(self):
        for maker, guest, room in self.both_ways():
            for owner, asker in ((maker, guest), (guest, maker)):
                since = asker.sync()["next_batch"]
                public = publish_keys(owner)
                changed = lambda: owner.id in asker.sync(since=since).get("device_lists", {}).get("changed", [])
                until(changed, "the device list is said to have changed")
                found = until(lambda: published(asker, owner), "the keys are found")
                self.assertEqual(found["keys"][f"ed25519:{owner.device}"], public)
                claim = {owner.id: {owner.device: "signed_curve25519"}}
                claims = [
                    asker.call("POST", "v3/keys/claim", {"one_time_keys": claim})["one_time_keys"]
                    for _ in range(2)
                ]
                ids = [next(iter(answered[owner.id][owner.device])) for answered in claims]
                self.assertNotEqual(ids[0], ids[1])

                message = {"messages": {owner.id: {owner.device: {"n": 1}}}}
                asker.call("PUT", f"v3/sendToDevice/m.peer.test/{asker.device}", message)
                asker.call("PUT", f"v3/sendToDevice/m.peer.test/{asker.device}", message)
                got = lambda: [
                    e for e in owner.sync().get("to_device", {}).get("events", []) if e["type"] == "m.peer.test"
                ]
                arrived = until(got, "the message to the device arrives")
                self.assertEqual([e["sender"] for e in arrived], [asker.id])

    def test_new_and_deleted_devices_are_noticed(self):
        for maker, guest, _ in self.both_ways():
            for owner, asker in ((maker, guest), (guest, maker)):
                publish_keys(owner)
                until(lambda: published(asker, owner), "the keys are found")
                since = asker.sync()["next_batch"]
                body = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": owner.id},
                        "password": "a long enough word"}
                second = type(owner)(owner.home, owner.home.call("POST", "/_matrix/client/v3/login", body))
                publish_keys(second)
                changed = lambda: owner.id in asker.sync(since=since).get("device_lists", {}).get("changed", [])
                until(changed, "the new device is noticed")
                until(lambda: published(asker, second), "its keys are found")
                second.call("POST", "v3/logout", {})
                until(lambda: published(asker, second) is None, "it is gone")

    def test_cross_signing_keys(self):
        for maker, guest, _ in self.both_ways():
            for owner, asker in ((maker, guest), (guest, maker)):
                key = generate_signing_key("master")
                public = encode_verify_key_base64(get_verify_key(key))
                master = {"user_id": owner.id, "usage": ["master"], "keys": {f"ed25519:{public}": public}}
                body = {"master_key": master}
                auth = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": owner.id},
                        "password": "a long enough word"}
                owner.call("POST", "v3/keys/device_signing/upload", {**body, "auth": auth})

                def found():
                    answer = asker.call("POST", "v3/keys/query", {"device_keys": {owner.id: []}})
                    return answer.get("master_keys", {}).get(owner.id)

                self.assertEqual(until(found, "the master key is found")["keys"], master["keys"])


if __name__ == "__main__":
    unittest.main()
