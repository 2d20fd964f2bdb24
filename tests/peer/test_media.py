"""Media of one server, fetched by people on the other, with the authenticated endpoints of both."""

import struct
import unittest
import zlib

from homes import Refused, until
from world import World


def picture(side=64):
    """A PNG of one colour."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    lines = b"".join(b"\0" + b"\x20\x60\xa0" * side for _ in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def upload(person, data, kind, name):
    path = f"/_matrix/media/v3/upload?filename={name}"
    answer = person.home.call("POST", path, token=person.token, data=data, headers={"Content-Type": kind})
    return answer["content_uri"]


class Media(World):
    def both_ways(self):
        for ours in (True, False):
            maker, guest = self.pair(ours)
            room = self.shared_room(maker, guest)
            for giver, taker in ((maker, guest), (guest, maker)):
                yield giver, taker, room

    def fetch(self, person, uri, what="download", query=""):
        path = uri.removeprefix("mxc://")
        return person.call("GET", f"v1/media/{what}/{path}{query}", raw=True)

    def test_files_and_pictures(self):
        for giver, taker, room in self.both_ways():
            text = f"what {giver.id} wrote down".encode()
            file = upload(giver, text, "text/plain", "log.txt")
            image = upload(giver, picture(), "image/png", "flag.png")
            said = giver.send(room, {"msgtype": "m.image", "body": "flag.png", "url": image})
            self.assertEqual(taker.sees(room, said)["content"]["url"], image)
            self.assertEqual(self.fetch(taker, file), text)
            self.assertEqual(self.fetch(taker, image), picture())
            small = self.fetch(taker, image, "thumbnail", "?width=32&height=32&method=scale")
            self.assertEqual(small[:4], b"\x89PNG")
            # A second time it is there already.
            self.assertEqual(self.fetch(taker, file), text)

    def test_what_is_not_there(self):
        for giver, taker, _ in self.both_ways():
            with self.assertRaises(Refused) as refused:
                self.fetch(taker, f"mxc://{giver.home.name}/nothingofthekind")
            self.assertEqual(refused.exception.status, 404)
            self.assertEqual(refused.exception.errcode, "M_NOT_FOUND")

    def test_avatars(self):
        for giver, taker, room in self.both_ways():
            image = upload(giver, picture(32), "image/png", "face.png")
            giver.call("PUT", f"v3/profile/{giver.id}/avatar_url", {"avatar_url": image})
            shown = lambda: taker.state(room, "m.room.member", giver.id).get("avatar_url") == image
            until(shown, "the picture is named in the room")
            self.assertEqual(taker.call("GET", f"v3/profile/{giver.id}")["avatar_url"], image)
            self.assertEqual(self.fetch(taker, image), picture(32))


if __name__ == "__main__":
    unittest.main()
