// A small chat page on matrix-js-sdk with everything a web client keeps: IndexedDB stores for sync and
// crypto, the session in localStorage, a service worker for media, and the server's address from its configuration.
import * as sdk from "matrix-js-sdk";

const at = (id) => document.getElementById(id);
let client;
let current;

/** Waits until the service worker sees what this page asks for, and answers who asks it for the session. */
async function work(session) {
    const { serviceWorker } = navigator;
    serviceWorker.addEventListener("message", ({ data, ports }) => {
        if (data === "session") ports[0].postMessage({ homeserver: session.baseUrl, accessToken: session.accessToken });
    });
    await serviceWorker.register("sw.js");
    if (!serviceWorker.controller) {
        await new Promise((done) => serviceWorker.addEventListener("controllerchange", done, { once: true }));
    }
}

async function open(session) {
    await work(session);
    const store = new sdk.IndexedDBStore({ indexedDB, dbName: `sync-${session.userId}`, localStorage });
    client = sdk.createClient({ ...session, store, timelineSupport: true });
    await store.startup();
    await client.initRustCrypto({ cryptoDatabasePrefix: `crypto-${session.userId}` });
    client.on(sdk.RoomEvent.Timeline, draw);
    client.on(sdk.RoomEvent.MyMembership, draw);
    client.on(sdk.MatrixEventEvent.Decrypted, draw);
    client.on(sdk.ClientEvent.Sync, draw);
    await client.startClient({ initialSyncLimit: 50, lazyLoadMembers: true });
    at("login").hidden = true;
    at("chat").hidden = false;
    at("whoami").textContent = `${session.userId} ${session.deviceId}`;
}

/** A picture in a size; no token stands in its address: the service worker adds it. */
function picture(mxc, ...size) {
    const image = document.createElement("img");
    image.src = client.mxcUrlToHttp(mxc, ...size, false, true, true);
    return image;
}

/** A button that downloads a file: the page fetches it by the service worker, and hands it to the browser. */
function download({ url, body }) {
    const button = document.createElement("button");
    button.className = "file";
    button.textContent = `Download ${body}`;
    button.onclick = async () => {
        const answer = await fetch(client.mxcUrlToHttp(url, undefined, undefined, undefined, false, true, true));
        if (!answer.ok) throw new Error(`the download ended with ${answer.status}`);
        const link = document.createElement("a");
        link.href = URL.createObjectURL(await answer.blob());
        link.download = body;
        link.click();
    };
    return button;
}

function line(event) {
    const item = document.createElement("li");
    const content = event.getContent();
    item.dataset.event = event.getId();
    item.dataset.encrypted = String(event.isEncrypted());
    item.textContent = `${event.getSender()}: ${content.body ?? ""}`;
    const avatar = current.getMember(event.getSender())?.getMxcAvatarUrl();
    if (avatar) {
        const image = picture(avatar, 96, 96, "crop");
        image.className = "avatar";
        item.prepend(image);
    }
    if (content.msgtype === "m.image") item.append(picture(content.url, 320, 240, "scale"));
    if (content.msgtype === "m.file") item.append(download(content));
    return item;
}

function draw() {
    if (!client) return;
    const invites = client.getRooms().filter((room) => room.getMyMembership() === "invite");
    at("invites").replaceChildren(
        ...invites.map((room) => {
            const button = document.createElement("button");
            button.className = "accept";
            button.textContent = `Join ${room.name}`;
            button.onclick = () => client.joinRoom(room.roomId);
            return button;
        }),
    );
    current = client.getRooms().find((room) => room.getMyMembership() === "join");
    if (!current) return;
    if (at("room").textContent !== current.name) {
        at("room").textContent = current.name;
        // the SDK leaves a room's history encrypted until the room is looked at
        current.decryptAllEvents().then(draw);
    }
    const messages = current.getLiveTimeline().getEvents().filter((e) => e.getType() === "m.room.message" && !e.status);
    const known = new Map([...at("timeline").children].map((item) => [item.dataset.event, item]));
    const fresh = messages.filter((event) => !known.has(event.getId()) && !event.isDecryptionFailure());
    at("timeline").append(...fresh.map(line));
    document.body.dataset.sync = client.getSyncState() ?? "";
}

at("login").onsubmit = async (submit) => {
    submit.preventDefault();
    const baseUrl = at("server").value;
    const answer = await sdk.createClient({ baseUrl }).loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.user", user: at("user").value },
        password: at("password").value,
    });
    const session = {
        baseUrl,
        userId: answer.user_id,
        deviceId: answer.device_id,
        accessToken: answer.access_token,
    };
    localStorage.setItem("session", JSON.stringify(session));
    await open(session);
};

at("create").onclick = () =>
    client.createRoom({
        preset: "private_chat",
        name: "Reef",
        initial_state: [
            { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } },
        ],
    });

at("invite").onclick = () => client.invite(current.roomId, at("invitee").value);

at("composer").onsubmit = async (submit) => {
    submit.preventDefault();
    const text = at("text").value;
    at("text").value = "";
    await client.sendTextMessage(current.roomId, text);
};

const uploaded = async (file) =>
    (await client.uploadContent(file, { name: file.name, type: file.type })).content_uri;

at("file").onchange = async () => {
    const [file] = at("file").files;
    const msgtype = file.type.startsWith("image/") ? "m.image" : "m.file";
    await client.sendMessage(current.roomId, { msgtype, body: file.name, url: await uploaded(file) });
};

at("avatar").onchange = async () => client.setAvatarUrl(await uploaded(at("avatar").files[0]));

/** The server that the configuration names, where there is one: it is made by the server that serves this page. */
async function configured() {
    const answer = await fetch("config.json");
    if (answer.ok) at("server").value = (await answer.json()).default_server_config["m.homeserver"].base_url;
}

const kept = localStorage.getItem("session");
if (kept) open(JSON.parse(kept));
else configured();
