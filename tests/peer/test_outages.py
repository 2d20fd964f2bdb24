"""One of the two servers is away for a while, and catches up."""

import unittest

from homes import until
from world import World


class Outages(World):
    def test_a_server_that_was_away_catches_up(self):
        for ours in (True, False):
            with self.subTest(away="synapse" if ours else "skerry"):
                maker, guest = self.pair(ours)
                room = self.shared_room(maker, guest)
                guest.home.stop()
                said = [maker.say(room, f"while you were away {n}") for n in range(30)]
                maker.set(room, "m.room.topic", {"topic": "Storm"})
                guest.home.start()
                until(lambda: guest.state(room, "m.room.topic") == {"topic": "Storm"}, "state catches up", 90)
                for event_id in said:
                    guest.sees(room, event_id)
                back = guest.say(room, "I am back")
                maker.sees(room, back)

    def test_both_talked_while_they_could_not_hear_each_other(self):
        maker, guest = self.pair(True)
        room = self.shared_room(maker, guest)
        self.skerry.stop()
        theirs = [guest.say(room, f"theirs {n}") for n in range(5)]
        self.synapse.stop()
        self.skerry.start()
        ours = [maker.say(room, f"ours {n}") for n in range(5)]
        maker.set(room, "m.room.name", {"name": "Forked"})
        self.synapse.start()
        for event_id in theirs:
            until(lambda: maker.event(room, event_id), "what they said arrives", 90)
        for event_id in ours:
            until(lambda: guest.event(room, event_id), "what we said arrives", 90)
        joined = maker.say(room, "together again")
        guest.sees(room, joined)
        for home in (maker, guest):
            self.assertEqual(home.state(room, "m.room.name"), {"name": "Forked"})


if __name__ == "__main__":
    unittest.main()
