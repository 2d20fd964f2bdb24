"""Rooms of the older versions, 1 to 9: made on either side, used from both."""

import unittest

from homes import Refused, quote, until
from world import World

OLD_VERSIONS = [str(number) for number in range(1, 10)]
#: The first version whose events hold no floats and no integers beyond what every JSON library can carry.
STRICT = 6
#: The first versions with knocks and with joins by membership elsewhere.
KNOCKS, RESTRICTED = 7, 8


class Versions(World):
    def each(self):
        for version in OLD_VERSIONS:
            for ours in (True, False):
                yield version, ours

    def test_talk_redactions_and_history(self):
        for version, ours in self.each():
            with self.subTest(version=version, made_on="skerry" if ours else "synapse"):
                maker, guest = self.pair(ours)
                room = maker.create(preset="public_chat", room_version=version, name="Harbour")
                before = maker.say(room, "before the join")
                guest.join(room, [maker.home.name])
                until(lambda: maker.membership(room, guest) == "join", "the maker learns of the join")
                self.assertEqual(guest.state(room, "m.room.name"), {"name": "Harbour"})
                created = guest.state(room, "m.room.create")
                self.assertEqual(created.get("room_version", "1"), version)
                for teller, listener in ((maker, guest), (guest, maker)):
                    said = teller.say(room, f"from {teller.id}")
                    event = listener.sees(room, said)
                    self.assertEqual((event["sender"], event["content"]["body"]), (teller.id, f"from {teller.id}"))
                    path = f"redact/{quote(said)}/r-{teller.count}"
                    teller.room(room, path, {"reason": "slip"}, method="PUT")
                    until(lambda: listener.event(room, said)["content"] == {}, "the redaction arrives")
                kinds = [event["type"] for event in guest.history(room)]
                self.assertIn("m.room.create", kinds)
                self.assertEqual(guest.sees(room, before)["content"]["body"], "before the join")

    def test_numbers_that_later_versions_refuse(self):
        odd = {"half": 1.5, "large": 2**60, "small": -(2**60), "exponent": 1e25}
        for version, ours in self.each():
            with self.subTest(version=version, made_on="skerry" if ours else "synapse"):
                maker, guest = self.pair(ours)
                room = self.shared_room(maker, guest, version=version)
                for teller, listener in ((maker, guest), (guest, maker)):
                    if int(version) >= STRICT:
                        with self.assertRaises(Refused) as refused:
                            teller.say(room, "odd", numbers=odd)
                        self.assertEqual(refused.exception.status, 400)
                        continue
                    said = teller.say(room, "odd", numbers=odd)
                    self.assertEqual(listener.sees(room, said)["content"]["numbers"], odd)
                    # Whoever builds on it has understood its id.
                    teller.sees(room, listener.say(room, "read"))

    def test_power_levels_kicks_and_bans(self):
        for version, ours in self.each():
            with self.subTest(version=version, made_on="skerry" if ours else "synapse"):
                maker, guest = self.pair(ours)
                room = self.shared_room(maker, guest, version=version)
                with self.assertRaises(Refused) as refused:
                    guest.set(room, "m.room.name", {"name": "Mutiny"})
                self.assertEqual(refused.exception.status, 403)
                levels = maker.state(room, "m.room.power_levels")
                levels["users"][guest.id] = 50
                maker.set(room, "m.room.power_levels", levels)
                raised = lambda: guest.state(room, "m.room.power_levels")["users"].get(guest.id) == 50
                until(raised, "the level arrives")
                guest.set(room, "m.room.name", {"name": "Renamed"})
                until(lambda: maker.state(room, "m.room.name") == {"name": "Renamed"}, "the name arrives")
                maker.room(room, "kick", {"user_id": guest.id, "reason": "noise"})
                until(lambda: not guest.is_in(room), "the kick arrives")
                guest.join(room, [maker.home.name])
                until(lambda: maker.membership(room, guest) == "join", "the second join arrives")
                maker.room(room, "ban", {"user_id": guest.id})
                until(lambda: not guest.is_in(room), "the ban arrives")
                with self.assertRaises(Refused) as refused:
                    guest.join(room, [maker.home.name])
                self.assertEqual(refused.exception.status, 403)
                maker.room(room, "unban", {"user_id": guest.id})
                until(lambda: self.joins(guest, room, maker), "who was unbanned may join")
                guest.sees(room, maker.say(room, "once more"))

    def test_both_change_the_same_at_once(self):
        for version, ours in self.each():
            with self.subTest(version=version, made_on="skerry" if ours else "synapse"):
                maker, guest = self.pair(ours)
                room = self.shared_room(maker, guest, version=version)
                levels = maker.state(room, "m.room.power_levels")
                levels["users"][guest.id] = 100
                maker.set(room, "m.room.power_levels", levels)
                raised = lambda: guest.state(room, "m.room.power_levels")["users"].get(guest.id) == 100
                until(raised, "the level arrives")
                for turn in range(5):
                    for person in (maker, guest):
                        person.set(room, "m.room.topic", {"topic": f"{turn} of {person.id}"})
                        person.set(room, "m.room.name", {"name": f"{turn} of {person.id}"})
                last = [person.say(room, "that was all") for person in (maker, guest)]
                for person in (maker, guest):
                    for event_id in last:
                        person.sees(room, event_id)
                # Somebody has to say something after both sides are known: it ties them together.
                maker.sees(room, guest.say(room, "agreed"))
                for kind in ("m.room.topic", "m.room.name"):
                    same = lambda: maker.state(room, kind) == guest.state(room, kind)
                    until(same, f"both see the same {kind}")

    def test_knocks_and_restricted_joins(self):
        for version, ours in self.each():
            if int(version) < KNOCKS:
                continue
            with self.subTest(version=version, made_on="skerry" if ours else "synapse"):
                maker, guest = self.pair(ours)
                rule = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
                room = maker.create(preset="private_chat", room_version=version, initial_state=[rule])
                guest.knock(room, [maker.home.name])
                until(lambda: maker.membership(room, guest) == "knock", "the knock arrives")
                maker.invite(room, guest)
                until(lambda: room in guest.sync().get("rooms", {}).get("invite", {}), "the invite arrives")
                guest.join(room, [maker.home.name])
                guest.sees(room, maker.say(room, "come in"))
                if int(version) < RESTRICTED:
                    continue
                content = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": room}]}
                rule = {"type": "m.room.join_rules", "state_key": "", "content": content}
                club = maker.create(preset="private_chat", room_version=version, initial_state=[rule])
                guest.join(club, [maker.home.name])
                member = until(lambda: maker.state(club, "m.room.member", guest.id), "the join arrives")
                self.assertEqual(member["join_authorised_via_users_server"], maker.id)
                guest.sees(club, maker.say(club, "members only"))


if __name__ == "__main__":
    unittest.main()
