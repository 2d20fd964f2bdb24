// Element Web's SDK on two servers: two people, one on each, talk encrypted; one server is away for a while.
import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { authority } from "./lib/authority.mjs";
import { hears, login, membership, secure } from "./lib/client.mjs";
import { freePort, register, Skerry, until } from "./lib/skerry.mjs";

const ENCRYPTED = {
    preset: "private_chat",
    name: "Strait",
    initial_state: [
        { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } },
    ],
};

let scratch;
const homes = {};
const clients = [];

/** A server that other servers of this test find under its name, which has the port. */
async function home(files) {
    return Skerry.start({
        name: `localhost:${await freePort()}`,
        tls: files,
        more: ["[federation]", `ca_file = "${files.root}"`, "allow_private_addresses = true"],
    });
}

/** Somebody with cross-signing, as every new account of Element has it. */
async function person(where, name) {
    const password = `${name}'s password`;
    await register(homes[where].url, name, password);
    const client = await login(homes[where].url, name, password, {});
    clients.push(client);
    await secure(client, name, password);
    return client;
}

before(async () => {
    scratch = await mkdtemp(join(tmpdir(), "skerry-across-"));
    const files = await authority(scratch, "localhost");
    homes.east = await home(files);
    homes.west = await home(files);
});

after(async () => {
    for (const client of clients) client.stopClient();
    for (const server of Object.values(homes)) await server.stop();
    if (scratch) await rm(scratch, { recursive: true, force: true });
});

test("two people on two servers talk encrypted, though one server is away for a while", { timeout: 300_000 }, async () => {
    const ada = await person("east", "ada");
    const grace = await person("west", "grace");
    const { room_id: room } = await ada.createRoom({ ...ENCRYPTED, invite: [grace.getUserId()] });
    await membership(grace, room, "invite");
    assert.equal(grace.getRoom(room).name, "Strait", "an invite names its room");
    await grace.joinRoom(room);
    await membership(grace, room, "join");
    await until("ada to see grace", () => ada.getRoom(room)?.getMember(grace.getUserId())?.membership === "join");

    await ada.sendTextMessage(room, "can you see the light?");
    const heard = await hears(grace, room, "can you see the light?");
    assert.equal(heard.getWireType(), "m.room.encrypted");
    await grace.sendTextMessage(room, "clearly");
    await hears(ada, room, "clearly");
    await until("ada to know that grace has cross-signing", async () => {
        const status = await ada.getCrypto().getUserVerificationStatus(grace.getUserId());
        return (await ada.getCrypto().userHasCrossSigningKeys(grace.getUserId(), true)) && !status.isVerified();
    });

    await homes.west.halt();
    await ada.sendTextMessage(room, "are you still there?");
    await homes.west.launch();
    await hears(grace, room, "are you still there?");
    await grace.sendTextMessage(room, "the lamp had gone out");
    await hears(ada, room, "the lamp had gone out");
});

test("a new device on one server reads what is said on the other", { timeout: 120_000 }, async () => {
    const [ada, grace] = clients;
    const { room_id: room } = await grace.createRoom({ ...ENCRYPTED, invite: [ada.getUserId()] });
    await membership(ada, room, "invite");
    await ada.joinRoom(room);
    await until("grace to see ada", () => grace.getRoom(room)?.getMember(ada.getUserId())?.membership === "join");
    const second = await login(homes.east.url, "ada", "ada's password", {});
    clients.push(second);
    await until("grace's server to know ada's new device", async () => {
        const devices = await grace.getCrypto().getUserDeviceInfo([ada.getUserId()], true);
        return devices.get(ada.getUserId())?.has(second.getDeviceId());
    });
    await grace.sendTextMessage(room, "to all of you");
    await hears(ada, room, "to all of you");
    await hears(second, room, "to all of you");
});

test("edits, reactions, receipts, typing and redactions cross over", { timeout: 120_000 }, async () => {
    const [ada, grace] = clients;
    const { room_id: room } = await ada.createRoom({ preset: "public_chat", name: "Harbour", room_alias_name: "harbour" });
    const joined = await grace.joinRoom(`#harbour:${ada.getDomain()}`);
    assert.equal(joined.roomId, room);
    await membership(grace, room, "join");
    await until("ada to see grace", () => ada.getRoom(room)?.getMember(grace.getUserId())?.membership === "join");
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
    await grace.sendReadReceipt(grace.getRoom(room).findEventById(first));
    await until("the receipt", () => ada.getRoom(room).hasUserReadEvent(grace.getUserId(), first));
    await grace.sendTyping(room, true, 30_000);
    await until("the typing", () => ada.getRoom(room).getMember(grace.getUserId()).typing);
    await ada.redactEvent(room, first, undefined, { reason: "tidying" });
    await until("the redaction", () => grace.getRoom(room).findEventById(first)?.isRedacted());
    await grace.setDisplayName("Grace of the West");
    await until("her new name", () => ada.getRoom(room).getMember(grace.getUserId()).rawDisplayName === "Grace of the West");
});
