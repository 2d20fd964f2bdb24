"""What the tests have in common: the two servers, and people on them."""

import os
import pathlib
import shutil
import tempfile
import unittest
from itertools import count

from authority import Authority
from homes import Refused, Skerry, Synapse, side_by_side, until

VERSIONS = ("10", "11", "12")


class World(unittest.TestCase):
    """One pair of servers for all tests of a class; each test has its own people and rooms."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="skerry-peer-"))
        authority = Authority(cls.folder)
        cls.skerry, cls.synapse = side_by_side(
            lambda: Skerry(cls.folder, authority), lambda: Synapse(cls.folder, authority)
        )
        cls.names = count(1)

    @classmethod
    def tearDownClass(cls):
        status = cls.skerry.stop()
        cls.synapse.stop()
        if status == 0 and not os.environ.get("SKERRY_KEEP"):
            shutil.rmtree(cls.folder)
        assert status == 0, f"Skerry must end cleanly, see {cls.folder}"

    def pair(self, ours):
        """Somebody on Skerry and somebody on Synapse; the maker is on Skerry if `ours`."""
        number = next(self.names)
        people = [self.skerry.register(f"ours{number}"), self.synapse.register(f"theirs{number}")]
        return people if ours else people[::-1]

    def shared_room(self, maker, guest, version="11", **more):
        """A public room that both are in, and each server knows it."""
        room = maker.create(preset="public_chat", room_version=version, **more)
        guest.join(room, [maker.home.name])
        until(lambda: maker.membership(room, guest) == "join", "the join arrives")
        return room

    def joins(self, guest, room, maker):
        try:
            return guest.join(room, [maker.home.name])
        except Refused as refused:
            if refused.status == 403:
                return None
            raise
