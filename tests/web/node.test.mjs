// Element Web's SDK in Node with its Rust crypto: two people, three devices, a restart in between.
import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { hears, login, membership, secure } from "./lib/client.mjs";
import { register, Skerry, until } from "./lib/skerry.mjs";

const ENCRYPTED = {
    preset: "private_chat",
    name: "Lighthouse",
    initial_state: [
        { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } },
    ],
};

let server;
const clients = [];

async function signIn(name, secrets) {
    const client = await login(server.url, name, `${name}'s password`, secrets);
    clients.push(client);
    return client;
}

before(async () => {
    server = await Skerry.start();
    await register(server.url, "ada", "ada's password");
    await register(server.url, "grace", "grace's password");
});

after(async () => {
    for (const client of clients) client.stopClient();
    await server.stop();
});

test("an encrypted conversation, across a restart and onto a new device", { timeout: 240_000 }, async () => {
    const secrets = {};
    const ada = await signIn("ada", secrets);
    const grace = await signIn("grace");
    await secure(ada, "ada", "ada's password");
    assert.ok(await ada.getCrypto().isCrossSigningReady(), "cross-signing is set up");
    assert.ok(await ada.getCrypto().getActiveSessionBackupVersion(), "a key backup is active");

    const { room_id: room } = await ada.createRoom({ ...ENCRYPTED, invite: [grace.getUserId()] });
    await membership(grace, room, "invite");
    await grace.joinRoom(room);
    await membership(grace, room, "join");
    await until("ada to see grace", () => ada.getRoom(room)?.getMember(grace.getUserId())?.membership === "join");

    await ada.sendTextMessage(room, "the lamp is lit");
    const heard = await hears(grace, room, "the lamp is lit");
    assert.equal(heard.getWireType(), "m.room.encrypted");
    await grace.sendTextMessage(room, "I see it from here");
    await hears(ada, room, "I see it from here");

    await server.restart();
    await grace.sendTextMessage(room, "still burning?");
    await hears(ada, room, "still burning?");
    await ada.sendTextMessage(room, "still burning.");
    await hears(grace, room, "still burning.");

    await until("every key to be in the backup", async () => {
        // asked of the server itself, because the SDK answers from memory
        const answer = await fetch(`${server.url}/_matrix/client/v3/room_keys/version`, {
            headers: { Authorization: `Bearer ${ada.getAccessToken()}` },
        });
        return (await answer.json()).count >= 2;
    });
    const second = await signIn("ada", secrets);
    // as Element does before it asks for the recovery key: the keys to be imported are compared with the public ones
    assert.ok(await second.getCrypto().userHasCrossSigningKeys(ada.getUserId(), true));
    await second.getCrypto().bootstrapCrossSigning({});
    await second.getCrypto().loadSessionBackupPrivateKeyFromSecretStorage();
    const restored = await second.getCrypto().restoreKeyBackup();
    assert.ok(restored.imported >= 1, "room keys come back from the backup");
    await second.scrollback(second.getRoom(room), 50);
    for (const event of second.getRoom(room).getLiveTimeline().getEvents()) {
        if (event.isDecryptionFailure()) await event.attemptDecryption(second.getCrypto(), { isRetry: true });
    }
    await hears(second, room, "the lamp is lit");
    await until("ada's new device to be signed by her", async () => {
        const status = await ada.getCrypto().getDeviceVerificationStatus(ada.getUserId(), second.getDeviceId());
        return status?.signedByOwner;
    });
    await ada.sendTextMessage(room, "three of us now");
    await hears(second, room, "three of us now");
});

test("edits, reactions, threads, receipts and redactions reach the other side", { timeout: 120_000 }, async () => {
    const [ada, grace] = clients;
    const { room_id: room } = await ada.createRoom({ preset: "public_chat", name: "Harbour" });
    await grace.joinRoom(room);
    const { event_id: first } = await ada.sendTextMessage(room, "helo");
    await hears(grace, room, "helo");
    await ada.sendMessage(room, {
        "msgtype": "m.text",
        "body": "* hello",
        "m.new_content": { msgtype: "m.text", body: "hello" },
        "m.relates_to": { rel_type: "m.replace", event_id: first },
    });
    await until("the edit", () => grace.getRoom(room).findEventById(first)?.getContent().body === "hello");
    await grace.sendEvent(room, "m.reaction", {
        "m.relates_to": { rel_type: "m.annotation", event_id: first, key: "⚓" },
    });
    await until("the reaction", () =>
        ada.getRoom(room).getLiveTimeline().getEvents().some((e) => e.getRelation()?.key === "⚓"),
    );
    await grace.sendMessage(room, first, { msgtype: "m.text", body: "a thread begins" });
    await until("the thread", () => ada.getRoom(room).getThread(first)?.length === 1);
    const event = grace.getRoom(room).findEventById(first);
    await grace.sendReadReceipt(event);
    await until("the receipt", () => ada.getRoom(room).hasUserReadEvent(grace.getUserId(), first));
    await ada.redactEvent(room, first, undefined, { reason: "tidying" });
    await until("the redaction", () => grace.getRoom(room).findEventById(first)?.isRedacted());
});

test("a file goes up and comes back with authentication only", { timeout: 60_000 }, async () => {
    const [ada] = clients;
    const bytes = new Uint8Array(70_000).map((_, at) => (at * 31) & 255);
    const { content_uri: uri } = await ada.uploadContent(new Blob([bytes]), {
        name: "tides.bin",
        type: "application/octet-stream",
    });
    const link = ada.mxcUrlToHttp(uri, undefined, undefined, undefined, false, true, true);
    assert.equal((await fetch(link)).status, 401, "no token, no file");
    const answer = await fetch(link, { headers: { Authorization: `Bearer ${ada.getAccessToken()}` } });
    assert.equal(answer.status, 200);
    assert.deepEqual(new Uint8Array(await answer.arrayBuffer()), bytes);
});
