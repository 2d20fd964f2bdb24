// What people do in Element beside talking: searching, threads, spaces, polls, pinned messages, looking for rooms and
// for people, upgrading a room, and verifying a second device. Element Web's SDK makes every request.
import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { CryptoEvent, VerificationPhase, VerifierEvent } from "matrix-js-sdk/lib/crypto-api/index.js";
import { RoomHierarchy } from "matrix-js-sdk/lib/room-hierarchy.js";
import { hears, login, membership, secure } from "./lib/client.mjs";
import { register, Skerry, until } from "./lib/skerry.mjs";

let server;
let ada;
let grace;
const clients = [];

async function signIn(name, secrets) {
    const client = await login(server.url, name, `${name}'s password`, secrets);
    clients.push(client);
    return client;
}

/** A room that both are in, known to both. */
async function shared(options) {
    const { room_id: room } = await ada.createRoom({ preset: "public_chat", ...options });
    await grace.joinRoom(room);
    await membership(grace, room, "join");
    await until("ada to see grace", () => ada.getRoom(room)?.getMember(grace.getUserId())?.membership === "join");
    return room;
}

before(async () => {
    server = await Skerry.start();
    for (const name of ["ada", "grace"]) await register(server.url, name, `${name}'s password`);
    ada = await signIn("ada");
    grace = await signIn("grace");
});

after(async () => {
    for (const client of clients) client.stopClient();
    await server.stop();
});

test("words are found again, with what stood around them, page by page", { timeout: 120_000 }, async () => {
    const room = await shared({ name: "Library" });
    for (let n = 0; n < 25; n += 1) await ada.sendTextMessage(room, `the tide table, page ${n}`);
    await grace.sendTextMessage(room, "ein Wörterbuch für das Meer");
    await ada.sendTextMessage(room, "灯台の光が見える");
    await hears(grace, room, "灯台の光が見える");

    const found = await grace.searchRoomEvents({ term: "tide table" });
    assert.equal(found.count, 25);
    assert.ok(found.next_batch, "ten at a time");
    assert.ok(found.highlights.includes("tide"));
    const [newest] = found.results;
    assert.equal(newest.context.getEvent().getContent().body, "the tide table, page 24");
    assert.ok(newest.context.getTimeline().length > 1, "with its neighbours");
    await grace.backPaginateRoomEventsSearch(found);
    await grace.backPaginateRoomEventsSearch(found);
    assert.equal(found.results.length, 25);
    assert.equal((await grace.searchRoomEvents({ term: "worterbuch" })).count, 1);
    assert.equal((await grace.searchRoomEvents({ term: "灯台" })).count, 1);

    const { results } = await grace.searchRoomEvents({ term: "Wörterbuch" });
    await grace.redactEvent(room, results[0].context.getEvent().getId());
    assert.equal((await ada.searchRoomEvents({ term: "Wörterbuch" })).count, 0, "what was taken back is not found");
});

test("threads are listed, counted apart, and read apart", { timeout: 120_000 }, async () => {
    const room = await shared({ name: "Workshop" });
    const roots = [];
    for (const text of ["first job", "second job"]) {
        const { event_id: root } = await ada.sendTextMessage(room, text);
        await hears(grace, room, text);
        roots.push(root);
    }
    await grace.sendMessage(room, roots[0], { msgtype: "m.text", body: "I take this one" });
    await ada.sendMessage(room, roots[1], { msgtype: "m.text", body: "and I that" });
    const seen = ada.getRoom(room);
    await until("the thread that grace began", () => seen.getThread(roots[0])?.length === 1);
    await seen.createThreadsTimelineSets();
    await seen.fetchRoomThreads();
    const [all, mine] = seen.threadsTimelineSets;
    const ids = (set) => set.getLiveTimeline().getEvents().map((event) => event.getId());
    assert.deepEqual(ids(all).sort(), [...roots].sort());
    assert.ok(ids(mine).includes(roots[1]));

    await until("an unread reply in the first thread", () => seen.getThreadUnreadNotificationCount(roots[0], "total") === 1);
    const reply = seen.getThread(roots[0]).replyToEvent;
    await ada.sendReadReceipt(reply);
    await until("the thread to be read", () => seen.getThreadUnreadNotificationCount(roots[0], "total") === 0);
});

test("a space is a tree of rooms, loaded page by page", { timeout: 120_000 }, async () => {
    const { room_id: space } = await ada.createRoom({
        name: "Fleet",
        preset: "public_chat",
        creation_content: { type: "m.space" },
    });
    const rooms = [];
    for (let n = 0; n < 5; n += 1) {
        const { room_id: room } = await ada.createRoom({ name: `Ship ${n}`, preset: "public_chat" });
        await ada.sendStateEvent(space, "m.space.child", { via: ["localhost"], order: `${5 - n}`, suggested: n === 0 }, room);
        rooms.push(room);
    }
    // a circle must not trap anybody
    await ada.sendStateEvent(rooms[0], "m.space.child", { via: ["localhost"] }, space).catch(() => {});
    await grace.joinRoom(space);
    await membership(grace, space, "join");
    const tree = new RoomHierarchy(grace.getRoom(space), 2);
    const order = [];
    while (tree.canLoadMore) order.push(...(await tree.load()).map((room) => room.room_id));
    assert.deepEqual(order, [space, ...rooms.toReversed()]);
    assert.equal(tree.isSuggested(space, rooms[0]), true);
    const { rooms: suggested } = await grace.getRoomHierarchy(space, 10, 1, true);
    assert.deepEqual(suggested.map((room) => room.room_id), [space, rooms[0]]);
    const summary = await grace.getRoomSummary(rooms[1]);
    assert.equal(summary.name, "Ship 1");
    assert.equal(summary.num_joined_members, 1);
});

test("a poll is asked, answered and closed", { timeout: 120_000 }, async () => {
    const room = await shared({ name: "Council" });
    const { event_id: poll } = await ada.sendEvent(room, "org.matrix.msc3381.poll.start", {
        "org.matrix.msc3381.poll.start": {
            kind: "org.matrix.msc3381.poll.disclosed",
            max_selections: 1,
            question: { "org.matrix.msc1767.text": "Sail today?" },
            answers: [
                { "id": "yes", "org.matrix.msc1767.text": "yes" },
                { "id": "no", "org.matrix.msc1767.text": "no" },
            ],
        },
        "org.matrix.msc1767.text": "Sail today?",
    });
    await until("the poll", () => grace.getRoom(room).polls.has(poll));
    const relation = { rel_type: "m.reference", event_id: poll };
    await grace.sendEvent(room, "org.matrix.msc3381.poll.response", {
        "m.relates_to": relation,
        "org.matrix.msc3381.poll.response": { answers: ["yes"] },
    });
    // a client that comes later asks the server for the answers
    const votes = await until("the vote", async () => {
        const { chunk } = await ada.fetchRelations(room, poll, "m.reference", "org.matrix.msc3381.poll.response");
        return chunk.length === 1 && chunk;
    });
    assert.equal(votes[0].sender, grace.getUserId());
    await ada.sendEvent(room, "org.matrix.msc3381.poll.end", {
        "m.relates_to": relation,
        "org.matrix.msc3381.poll.end": {},
        "org.matrix.msc1767.text": "closed",
    });
    await until("the end", () => grace.getRoom(room).polls.get(poll).isEnded);
    const responses = await grace.getRoom(room).polls.get(poll).getResponses();
    await until("the answers", () => responses.getRelations().length === 1);
});

test("pinned messages are fetched one by one, also by who came later", { timeout: 60_000 }, async () => {
    const room = await shared({ name: "Notice board" });
    const { event_id: pinned } = await ada.sendTextMessage(room, "harbour closed on Sunday");
    await ada.sendStateEvent(room, "m.room.pinned_events", { pinned: [pinned] }, "");
    const list = await until("the pin", () => {
        const state = grace.getRoom(room).currentState.getStateEvents("m.room.pinned_events", "");
        return state?.getContent().pinned;
    });
    const event = await grace.fetchRoomEvent(room, list[0]);
    assert.equal(event.content.body, "harbour closed on Sunday");
});

test("rooms and people are found by name", { timeout: 60_000 }, async () => {
    const { room_id: room } = await ada.createRoom({
        name: "Über den Wellen",
        topic: "weather",
        preset: "public_chat",
        visibility: "public",
        room_alias_name: "wellen",
    });
    const page = await grace.publicRooms({ filter: { generic_search_term: "uber" } });
    assert.deepEqual(page.chunk.map((found) => found.room_id), [room]);
    const [found] = page.chunk;
    assert.equal(found.canonical_alias, "#wellen:localhost");
    const joined = await grace.joinRoom("#wellen:localhost");
    assert.equal(joined.roomId, room);

    await ada.setDisplayName("Adá Lovelace");
    await until("ada in the user directory", async () => {
        const { results } = await grace.searchUserDirectory({ term: "ada love" });
        return results.some((user) => user.user_id === ada.getUserId() && user.display_name === "Adá Lovelace");
    });
    const rooms = await grace._unstable_getSharedRooms(ada.getUserId());
    assert.ok(rooms.includes(room));
});

test("an upgraded room leads on to the new one", { timeout: 60_000 }, async () => {
    const room = await shared({ name: "Old pier", room_version: "10" });
    const { replacement_room: next } = await ada.upgradeRoom(room, "12");
    const tombstone = await until("the tombstone", () =>
        grace.getRoom(room).currentState.getStateEvents("m.room.tombstone", ""),
    );
    assert.equal(tombstone.getContent().replacement_room, next);
    await grace.joinRoom(next);
    await membership(grace, next, "join");
    await until("its name", () => grace.getRoom(next).name === "Old pier");
    assert.equal(grace.getRoom(next).findPredecessor().roomId, room);
});

test("a second device is verified by comparing emoji", { timeout: 120_000 }, async () => {
    const secrets = {};
    await register(server.url, "zoe", "zoe's password");
    const old = await signIn("zoe", secrets);
    await secure(old, "zoe", "zoe's password");
    const fresh = await signIn("zoe");
    await until("the devices to know of each other", async () => {
        const devices = await old.getCrypto().getUserDeviceInfo(["@zoe:localhost"], true);
        return devices.get("@zoe:localhost")?.has(fresh.getDeviceId());
    });

    const emoji = {};
    const compare = async (name, verifier) => {
        verifier.once(VerifierEvent.ShowSas, (sas) => {
            emoji[name] = sas.sas.emoji.map(([, word]) => word).join(" ");
            sas.confirm();
        });
        await verifier.verify();
    };
    const asked = new Promise((done) => old.once(CryptoEvent.VerificationRequestReceived, done));
    const request = await fresh.getCrypto().requestOwnUserVerification();
    const received = await asked;
    await received.accept();
    await until("the request to be ready", () => request.phase === VerificationPhase.Ready);
    const verifier = await request.startVerification("m.sas.v1");
    const answering = until("the other side's verifier", () => received.verifier).then((other) => compare("old", other));
    await Promise.all([compare("fresh", verifier), answering]);
    assert.ok(emoji.fresh && emoji.fresh === emoji.old, `${emoji.fresh} and ${emoji.old}`);
    await until("the fresh device to be signed", async () => {
        const status = await old.getCrypto().getDeviceVerificationStatus("@zoe:localhost", fresh.getDeviceId());
        return status?.crossSigningVerified;
    });
});
