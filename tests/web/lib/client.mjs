// A matrix-js-sdk client with Rust crypto, and the few waits a conversation needs.
import * as sdk from "matrix-js-sdk";
import { until } from "./skerry.mjs";

// the SDK tells everything it does; warnings and errors are enough here
for (const level of ["log", "info", "debug", "trace"]) console[level] = () => {};

/** Logs in and starts syncing; `secrets` keeps the recovery key between devices of one person. */
export async function login(url, username, password, secrets = {}) {
    const answer = await sdk.createClient({ baseUrl: url }).loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.user", user: username },
        password,
        initial_device_display_name: `${username}'s test device`,
    });
    const client = sdk.createClient({
        baseUrl: url,
        userId: answer.user_id,
        deviceId: answer.device_id,
        accessToken: answer.access_token,
        cryptoCallbacks: {
            getSecretStorageKey: async ({ keys }) => {
                const [id] = Object.keys(keys);
                return secrets.key ? [id, secrets.key] : null;
            },
            cacheSecretStorageKey: (_id, _info, key) => {
                secrets.key = key;
            },
        },
    });
    // the crypto store lives in IndexedDB; each device has a prefix of its own
    await client.initRustCrypto({ cryptoDatabasePrefix: `${username}-${answer.device_id}` });
    client.getCrypto().globalBlacklistUnverifiedDevices = false;
    await client.startClient({ initialSyncLimit: 20, lazyLoadMembers: true, threadSupport: true });
    await until(`${username}'s first sync`, () => client.isInitialSyncComplete());
    return client;
}

/** Sets up cross-signing, secret storage and a key backup, as Element does for a new account. */
export async function secure(client, username, password) {
    const crypto = client.getCrypto();
    await crypto.bootstrapCrossSigning({
        authUploadDeviceSigningKeys: async (upload) => {
            await upload({
                type: "m.login.password",
                identifier: { type: "m.id.user", user: username },
                password,
            });
        },
    });
    await crypto.bootstrapSecretStorage({
        createSecretStorageKey: () => crypto.createRecoveryKeyFromPassphrase(),
        setupNewKeyBackup: true,
    });
}

/** The decrypted body of the event in `room` whose text is `text`, waiting for it to arrive. */
export function hears(client, roomId, text) {
    return until(`${client.getUserId()} to read "${text}"`, async () => {
        const events = client.getRoom(roomId)?.getLiveTimeline().getEvents() ?? [];
        for (const event of events) {
            await event.getDecryptionPromise();
            if (event.getContent().body === text && !event.isDecryptionFailure()) return event;
        }
        return undefined;
    });
}

/** Waits until `client` is in `roomId` with `membership`. */
export function membership(client, roomId, wanted) {
    return until(`${client.getUserId()} to be in state ${wanted}`, () =>
        client.getRoom(roomId)?.getMyMembership() === wanted,
    );
}
