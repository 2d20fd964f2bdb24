"""Rooms between Skerry and Synapse: made on either side, joined from the other, in the versions people use."""

import unittest

from homes import Refused, until
from world import VERSIONS, World


class Rooms(World):
    def test_rooms_of_every_version_made_on_either_side(self):
        for version in VERSIONS:
            for ours in (True, False):
                with self.subTest(version=version, made_on="skerry" if ours else "synapse"):
                    self.talk_in_a_room_made_by(ours, version)

    def talk_in_a_room_made_by(self, ours, version):
        maker, guest = self.pair(ours)
        room = maker.create(preset="public_chat", room_version=version, name="Harbour")
        before = maker.say(room, "before the join")
        guest.join(room, [maker.home.name])
        until(lambda: maker.membership(room, guest) == "join", "the maker learns of the join")
        self.assertEqual(guest.state(room, "m.room.name"), {"name": "Harbour"})
        self.assertEqual(guest.membership(room, maker), "join")

        first = guest.say(room, "from the guest")
        self.assertEqual(maker.sees(room, first)["sender"], guest.id)
        second = maker.say(room, "from the maker")
        self.assertEqual(guest.sees(room, second)["content"]["body"], "from the maker")

        edit = guest.send(
            room,
            {
                "msgtype": "m.text",
                "body": "* edited",
                "m.new_content": {"msgtype": "m.text", "body": "edited"},
                "m.relates_to": {"rel_type": "m.replace", "event_id": first},
            },
        )
        maker.sees(room, edit)
        replaced = lambda: maker.event(room, first)["unsigned"].get("m.relations", {}).get("m.replace")
        self.assertEqual(until(replaced, "the edit is bundled")["event_id"], edit)

        guest.room(room, f"redact/{first}/r-{guest.count}", {}, method="PUT")
        until(lambda: maker.event(room, first)["content"] == {}, "the redaction arrives")
        maker.room(room, f"redact/{second}/r-{maker.count}", {}, method="PUT")
        until(lambda: guest.event(room, second)["content"] == {}, "the redaction arrives")

        # What was said before the join is fetched from the other server, to the very beginning.
        kinds = [event["type"] for event in guest.history(room)]
        self.assertIn("m.room.create", kinds)
        self.assertEqual(guest.sees(room, before)["content"]["body"], "before the join")

        maker.set(room, "m.room.topic", {"topic": "Tides"})
        until(lambda: guest.state(room, "m.room.topic") == {"topic": "Tides"}, "state arrives")

        guest.leave(room)
        until(lambda: maker.membership(room, guest) == "leave", "the leave arrives")
        guest.join(room, [maker.home.name])
        until(lambda: maker.membership(room, guest) == "join", "the second join arrives")
        again = maker.say(room, "welcome back")
        guest.sees(room, again)

    def test_invites(self):
        for ours in (True, False):
            with self.subTest(made_on="skerry" if ours else "synapse"):
                maker, guest = self.pair(ours)
                room = maker.create(preset="private_chat", name="Cabin", invite=[guest.id])
                invited = lambda: guest.sync()["rooms"]["invite"].get(room) if "rooms" in guest.sync() else None
                card = until(invited, "the invite arrives")["invite_state"]["events"]
                names = [event["content"]["name"] for event in card if event["type"] == "m.room.name"]
                self.assertEqual(names, ["Cabin"])
                guest.join(room)
                self.assertEqual(guest.membership(room, maker), "join")
                until(lambda: maker.membership(room, guest) == "join", "the join arrives")
                maker.sees(room, guest.say(room, "thanks"))

                other = maker.create(preset="private_chat")
                maker.invite(other, guest)
                until(lambda: other in guest.sync().get("rooms", {}).get("invite", {}), "the second invite arrives")
                guest.leave(other)
                until(lambda: maker.membership(other, guest) == "leave", "the maker learns that it was declined")

                third = maker.create(preset="private_chat")
                maker.invite(third, guest)
                until(lambda: third in guest.sync().get("rooms", {}).get("invite", {}), "the third invite arrives")
                maker.room(third, "kick", {"user_id": guest.id})
                gone = lambda: third not in guest.sync().get("rooms", {}).get("invite", {})
                until(gone, "the invite is taken back")

    def test_knocking(self):
        for ours in (True, False):
            with self.subTest(made_on="skerry" if ours else "synapse"):
                maker, guest = self.pair(ours)
                room = maker.create(
                    preset="private_chat",
                    initial_state=[{"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}],
                )
                guest.knock(room, [maker.home.name])
                until(lambda: maker.membership(room, guest) == "knock", "the knock arrives")
                until(lambda: room in guest.sync().get("rooms", {}).get("knock", {}), "the knock is shown")
                maker.invite(room, guest)
                until(lambda: room in guest.sync().get("rooms", {}).get("invite", {}), "the invite arrives")
                guest.join(room, [maker.home.name])
                guest.sees(room, maker.say(room, "come in"))

    def test_restricted_joins(self):
        for ours in (True, False):
            with self.subTest(made_on="skerry" if ours else "synapse"):
                maker, guest = self.pair(ours)
                club = maker.create(preset="public_chat")
                allow = [{"type": "m.room_membership", "room_id": club}]
                rule = {"join_rule": "restricted", "allow": allow}
                room = maker.create(
                    preset="private_chat",
                    initial_state=[{"type": "m.room.join_rules", "state_key": "", "content": rule}],
                )
                with self.assertRaises(Refused) as refused:
                    guest.join(room, [maker.home.name])
                self.assertEqual(refused.exception.status, 403)
                guest.join(club, [maker.home.name])
                until(lambda: maker.membership(club, guest) == "join", "the join of the club arrives")
                guest.join(room, [maker.home.name])
                member = until(lambda: maker.state(room, "m.room.member", guest.id), "the join arrives")
                self.assertEqual(member["join_authorised_via_users_server"], maker.id)
                guest.sees(room, maker.say(room, "members only"))

    def test_kicks_and_bans(self):
        for ours in (True, False):
            with self.subTest(made_on="skerry" if ours else "synapse"):
                maker, guest = self.pair(ours)
                room = self.shared_room(maker, guest)
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

    def test_power_levels(self):
        maker, guest = self.pair(True)
        room = self.shared_room(maker, guest)
        levels = maker.state(room, "m.room.power_levels")
        levels["users"][guest.id] = 50
        maker.set(room, "m.room.power_levels", levels)
        until(lambda: guest.state(room, "m.room.power_levels")["users"].get(guest.id) == 50, "the level arrives")
        guest.set(room, "m.room.name", {"name": "Renamed"})
        until(lambda: maker.state(room, "m.room.name") == {"name": "Renamed"}, "the name arrives")

    def test_server_acls(self):
        for ours in (True, False):
            with self.subTest(made_on="skerry" if ours else "synapse"):
                maker, guest = self.pair(ours)
                room = self.shared_room(maker, guest)
                rules = {"allow": ["*"], "deny": [guest.home.host], "allow_ip_literals": True}
                maker.set(room, "m.room.server_acl", rules)
                until(lambda: guest.state(room, "m.room.server_acl"), "the rules arrive")
                shut_out = guest.say(room, "does anybody hear this")
                control = self.shared_room(maker, guest)
                maker.sees(control, guest.say(control, "this is heard"))
                self.assertIsNone(maker.event(room, shut_out))

    def test_upgrades(self):
        for ours in (True, False):
            with self.subTest(made_on="skerry" if ours else "synapse"):
                maker, guest = self.pair(ours)
                room = self.shared_room(maker, guest, version="10")
                new = maker.room(room, "upgrade", {"new_version": "12"})["replacement_room"]
                tomb = until(lambda: guest.state(room, "m.room.tombstone"), "the tombstone arrives")
                self.assertEqual(tomb["replacement_room"], new)
                guest.join(new, [maker.home.name])
                guest.sees(new, maker.say(new, "we moved"))

    def test_spaces_and_directories(self):
        for ours in (True, False):
            with self.subTest(made_on="skerry" if ours else "synapse"):
                maker, guest = self.pair(ours)
                child = maker.create(preset="public_chat", name="Deck")
                space = maker.create(
                    preset="public_chat",
                    name="Ship",
                    creation_content={"type": "m.space"},
                    room_alias_name=f"ship-{maker.count}-{ours}".lower(),
                    visibility="public",
                )
                maker.set(space, "m.space.child", {"via": [maker.home.name]}, child)
                alias = f"#ship-{maker.count}-{ours}:{maker.home.name}".lower()
                self.assertEqual(guest.join(alias), space)
                rooms = guest.call("GET", f"v1/rooms/{space}/hierarchy")["rooms"]
                self.assertEqual([room["room_id"] for room in rooms], [space, child])
                listed = guest.call("POST", f"v3/publicRooms?server={maker.home.name}", {"limit": 50})["chunk"]
                self.assertIn(space, [room["room_id"] for room in listed])

    def test_profiles(self):
        for ours in (True, False):
            maker, guest = self.pair(ours)
            room = self.shared_room(maker, guest)
            for renamed, witness in ((maker, guest), (guest, maker)):
                with self.subTest(made_on=maker.home.kind, renamed=renamed.home.kind):
                    for name in ("Ada", "Ada of the Harbour"):
                        renamed.call("PUT", f"v3/profile/{renamed.id}/displayname", {"displayname": name})
                        shown = lambda: witness.state(room, "m.room.member", renamed.id).get("displayname") == name
                        until(shown, "the new name arrives in the room")
                        asked = lambda: witness.call("GET", f"v3/profile/{renamed.id}").get("displayname") == name
                        until(asked, "the new name is answered")

    def test_timestamps(self):
        maker, guest = self.pair(False)
        room = maker.create(preset="public_chat")
        first = maker.say(room, "first")
        at = maker.event(room, first)["origin_server_ts"]
        guest.join(room, [maker.home.name])
        found = guest.call("GET", f"v1/rooms/{room}/timestamp_to_event?ts={at}&dir=f")
        self.assertEqual(found["event_id"], first)


if __name__ == "__main__":
    unittest.main()
