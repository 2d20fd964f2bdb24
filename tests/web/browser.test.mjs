// A real browser, two profiles, two people: they talk live in both directions, reload, and still read it all.
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { after, before, test } from "node:test";
import { buildPage, launch } from "./lib/browser.mjs";
import { register, Skerry, until } from "./lib/skerry.mjs";

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm" };
// an 8x8 red square
const PNG = Buffer.from(
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEklEQVR4nGP4z8CAFWEXHbQSACj/P8Fu7N9hAAAAAElFTkSuQmCC",
    "base64",
);

let server;
let site;
let origin;
let scratch;
const profiles = [];

/** Serves the page from an origin of its own, so that CORS is really needed. */
async function serveThePage() {
    scratch = await mkdtemp(join(tmpdir(), "skerry-browser-"));
    const out = join(scratch, "site");
    await buildPage(out);
    site = createServer(async (request, response) => {
        const { pathname } = new URL(request.url, "http://x");
        const file = pathname === "/" ? "index.html" : pathname;
        try {
            const body = await readFile(join(out, file));
            response.setHeader("Content-Type", TYPES[extname(file)] ?? "text/plain");
            response.end(body);
        } catch {
            response.statusCode = 404;
            response.end();
        }
    });
    await new Promise((done) => site.listen(0, "127.0.0.1", done));
    origin = `http://127.0.0.1:${site.address().port}`;
}

async function profile(name, problems) {
    const context = await launch(join(scratch, name));
    profiles.push(context);
    const page = context.pages()[0] ?? (await context.newPage());
    page.setDefaultTimeout(60_000);
    page.on("pageerror", (error) => problems.push(`${name}: ${error}`));
    page.on("console", (message) => {
        const text = message.text();
        if (message.type() === "error" && /CORS|Content Security|Mixed Content/.test(text)) {
            problems.push(`${name}: ${text}`);
        }
    });
    await page.goto(origin);
    return page;
}

async function signIn(page, name) {
    await page.fill("#server", server.url);
    await page.fill("#user", name);
    await page.fill("#password", `${name}'s password`);
    await page.click("#login button");
    await page.waitForSelector("#chat:not([hidden])");
}

async function say(page, text) {
    await page.fill("#text", text);
    await page.click("#composer button");
}

/** A picture of 640 x 480 that the browser paints. */
async function picture(page) {
    const painted = await page.evaluate(async () => {
        const canvas = document.createElement("canvas");
        Object.assign(canvas, { width: 640, height: 480 });
        const context = canvas.getContext("2d");
        context.fillStyle = "teal";
        context.fillRect(0, 0, 640, 480);
        return canvas.toDataURL("image/png");
    });
    return Buffer.from(painted.split(",")[1], "base64");
}

const read = (page, text) => page.waitForSelector(`#timeline li[data-encrypted=true]:has-text("${text}")`);

before(async () => {
    server = await Skerry.start();
    await register(server.url, "ada", "ada's password");
    await register(server.url, "grace", "grace's password");
    await serveThePage();
});

after(async () => {
    for (const context of profiles) await context.close();
    await server?.stop();
    site?.close();
    site?.closeAllConnections();
    if (scratch) await rm(scratch, { recursive: true, force: true });
});

test("two people talk in two browsers, reload, and read their history", { timeout: 240_000 }, async () => {
    const problems = [];
    const ada = await profile("ada", problems);
    const grace = await profile("grace", problems);
    await signIn(ada, "ada");
    await signIn(grace, "grace");

    await ada.click("#create");
    await ada.waitForSelector('#room:has-text("Reef")');
    await ada.fill("#invitee", "@grace:localhost");
    await ada.click("#invite");
    await grace.click("button.accept");
    await grace.waitForSelector('#room:has-text("Reef")');

    await say(grace, "hello from the reef");
    await read(ada, "hello from the reef");
    await say(ada, "hello back");
    await read(grace, "hello back");

    await ada.setInputFiles("#file", { name: "square.png", mimeType: "image/png", buffer: PNG });
    const image = await grace.waitForSelector("#timeline li img:not(.avatar)");
    await grace.waitForFunction((img) => img.complete && img.naturalWidth === 8, image);

    const large = await picture(ada);
    await ada.setInputFiles("#file", { name: "large.png", mimeType: "image/png", buffer: large });
    const smaller = await grace.waitForSelector('#timeline li:has-text("large.png") img:not(.avatar)');
    await grace.waitForFunction((img) => img.complete && img.naturalWidth === 320, smaller);

    await grace.setInputFiles("#avatar", { name: "me.png", mimeType: "image/png", buffer: large });
    await until("grace's avatar", async () => {
        await say(grace, "how do I look?");
        return ada.waitForSelector("#timeline img.avatar", { timeout: 1000 });
    });
    const avatar = await ada.waitForSelector("#timeline img.avatar");
    await ada.waitForFunction((img) => img.complete && img.naturalWidth === 96 && img.naturalHeight === 96, avatar);

    const text = Buffer.from("what the reef says\n".repeat(1000));
    await grace.setInputFiles("#file", { name: "reef.txt", mimeType: "text/plain", buffer: text });
    const button = await ada.waitForSelector("#timeline button.file");
    const [download] = await Promise.all([ada.waitForEvent("download"), button.click()]);
    assert.equal(download.suggestedFilename(), "reef.txt");
    assert.deepEqual(await readFile(await download.path()), text);

    for (const page of [ada, grace]) {
        await page.reload();
        await read(page, "hello from the reef");
        await read(page, "hello back");
    }
    await say(ada, "after the reload");
    await read(grace, "after the reload");
    assert.deepEqual(problems, []);
});
