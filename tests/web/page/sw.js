// Adds the access token to requests for media, as Element's service worker does: an <img> can send none itself.
addEventListener("install", (event) => event.waitUntil(skipWaiting()));
addEventListener("activate", (event) => event.waitUntil(clients.claim()));

/** The homeserver and the access token of the page that asks; the worker keeps neither. */
async function session(page) {
    const client = await clients.get(page);
    const channel = new MessageChannel();
    const answer = new Promise((done) => (channel.port1.onmessage = ({ data }) => done(data)));
    client.postMessage("session", [channel.port2]);
    return answer;
}

async function fetchMedia({ request, clientId }) {
    const { homeserver, accessToken } = await session(clientId);
    // whoever else is asked for a picture must not learn the token
    if (new URL(request.url).origin !== new URL(homeserver).origin) return fetch(request);
    return fetch(request.url, { headers: { Authorization: `Bearer ${accessToken}` }, credentials: "omit" });
}

addEventListener("fetch", (event) => {
    const { pathname } = new URL(event.request.url);
    if (event.request.method !== "GET" || !pathname.startsWith("/_matrix/client/v1/media/")) return;
    // what the page fetches itself, it sends with a token of its own
    if (event.request.headers.has("Authorization")) return;
    event.respondWith(fetchMedia(event));
});
