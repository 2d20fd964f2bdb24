// What a browser gets from Skerry itself over HTTPS, under a certificate that it trusts because its user does: the
// welcome page, and a web client installed from its release archive, with the service worker that clients have.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { authority } from "./lib/authority.mjs";
import { buildPage, launch, trust } from "./lib/browser.mjs";
import { register, Skerry } from "./lib/skerry.mjs";

const run = promisify(execFile);
const NAME = "skerry.test";
// this name is the server's, and nobody else can be reached at all
const ONLY_US = [`--host-resolver-rules=MAP ${NAME} 127.0.0.1, MAP * ~NOTFOUND`];
const SIZES = { phone: { width: 390, height: 844 }, desktop: { width: 1280, height: 800 } };
// WCAG 2.2, level AA, for text of any size
const CONTRAST = 4.5;
// Whether there is a key backup: the answer of the protocol is 404 where there is none, and browsers call that an error.
const NOTHING_YET = /\/_matrix\/client\/v3\/room_keys\/version$/;

let server;
let scratch;
let root;
const browsers = [];

/** A browser in a home of its own that trusts the test's root certificate. */
async function open(name, more = {}) {
    const home = join(scratch, name);
    await trust(home, root);
    const browser = await launch(home, { args: ONLY_US, ...more });
    browsers.push(browser);
    return browser;
}

/** Writes down everything that a browser complains about, and whatever it asks of others than the server. */
async function watch(browser, name) {
    const problems = [];
    const seen = (text) => problems.push(`${name}: ${text}`);
    await browser.addInitScript(() => {
        addEventListener("securitypolicyviolation", (e) => console.error(`policy: ${e.violatedDirective} ${e.blockedURI}`));
    });
    browser.on("weberror", (error) => seen(error.error()));
    browser.on("console", (message) => {
        const { url } = message.location();
        const expected = message.text().includes("status of 404") && NOTHING_YET.test(url);
        const bad = message.type() === "error" || /Mixed Content|Content Security/.test(message.text());
        if (bad && !expected) seen(`${message.text()} (${url})`);
    });
    browser.on("request", (request) => {
        const { origin, protocol } = new URL(request.url());
        if (origin !== server.secure && !["data:", "blob:", "about:"].includes(protocol)) seen(`asked ${request.url()}`);
    });
    return problems;
}

/** Keeps a picture of the page for people, where they ask for it. */
async function photograph(page, name) {
    const dir = process.env.SKERRY_SCREENSHOTS;
    if (!dir) return;
    await mkdir(dir, { recursive: true });
    await page.screenshot({ path: join(dir, `${name}.png`), fullPage: true });
}

/** Runs in the page: every text whose contrast with what is behind it is too low. */
function faint(least) {
    const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const luminance = (layers) => {
        context.clearRect(0, 0, 1, 1);
        for (const colour of layers) {
            context.fillStyle = colour;
            context.fillRect(0, 0, 1, 1);
        }
        const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map((part) => {
            const share = part / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        const layers = [];
        for (let at = element; at; at = at.parentElement) layers.unshift(getComputedStyle(at).backgroundColor);
        return ["Canvas", ...layers];
    };
    const found = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        if (!texts.currentNode.data.trim() || !element.checkVisibility()) continue;
        const under = luminance(behind(element));
        const over = luminance([...behind(element), getComputedStyle(element).color]);
        const ratio = (Math.max(under, over) + 0.05) / (Math.min(under, over) + 0.05);
        if (ratio < least) found.push(`${ratio.toFixed(2)}: ${texts.currentNode.data.trim()}`);
    }
    return found;
}

/** Runs in the page: the link that has the focus, and whether a ring around it shows so. */
function ring() {
    const at = document.activeElement;
    const style = getComputedStyle(at);
    return { link: at.href, visible: style.outlineStyle === "solid" && parseFloat(style.outlineWidth) >= 2 };
}

/** What holds for the welcome page at every size and in both schemes. */
async function looksRight(page, what) {
    const outline = await page.evaluate(() => ({
        wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        lang: document.documentElement.lang,
        landmarks: ["header", "main", "footer"].map((tag) => document.querySelectorAll(`body > ${tag}`).length),
        headings: [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].map((h) => h.tagName),
        regions: [...document.querySelectorAll("section")].every((section) =>
            document.getElementById(section.getAttribute("aria-labelledby"))?.textContent.trim()),
    }));
    assert.equal(outline.wide, 0, `${what}: nothing is wider than the screen`);
    assert.equal(outline.lang, "en");
    assert.deepEqual(outline.landmarks, [1, 1, 1], "one header, one main part, one footer");
    assert.equal(outline.headings[0], "H1");
    assert.ok(outline.headings.length > 3 && outline.headings.slice(1).every((tag) => tag === "H2"), `${outline.headings}`);
    assert.ok(outline.regions, "every section is named by its heading");
    assert.deepEqual(await page.evaluate(faint, CONTRAST), [], `${what}: every text can be read`);

    const links = await page.locator("a").count();
    const reached = new Set();
    for (let n = 0; n < links; n += 1) {
        await page.keyboard.press("Tab");
        const { link, visible } = await page.evaluate(ring);
        assert.ok(visible, `${what}: where the focus is can be seen at ${link}`);
        reached.add(link);
    }
    assert.equal(reached.size, links, `${what}: every link is reached with the keyboard`);
    await page.evaluate(() => document.activeElement.blur());

    // scanners want dark signs on a light ground, whatever the scheme
    const code = page.locator('[role="img"]');
    assert.match(await code.getAttribute("aria-label"), /skerry\.test/);
    const box = await code.boundingBox();
    assert.ok(box.width >= 150 && Math.abs(box.width - box.height) < 2, `${what}: the code is a square that can be scanned`);
    const inks = await code.evaluate((element) =>
        [...element.querySelectorAll("svg *")].map((part) => part.getAttribute("fill")));
    assert.deepEqual(inks, ["#fff", "#000"]);
}

before(async () => {
    scratch = await mkdtemp(join(tmpdir(), "skerry-served-"));
    const files = await authority(scratch, NAME);
    root = files.root;
    const more = [
        "[well_known]",
        'support.contacts = [{ role = "m.role.admin", matrix_id = "@keeper:skerry.test" }]',
        'support.support_page = "https://skerry.test/help"',
        "[registration.policies.rules]",
        'version = "1"',
        'en = { name = "House rules", url = "https://skerry.test/rules" }',
    ];
    server = await Skerry.start({ name: NAME, tls: files, more });
});

after(async () => {
    for (const browser of browsers) await browser.close();
    await server?.stop();
    if (scratch) await rm(scratch, { recursive: true, force: true });
});

test("a browser that does not know the root certificate refuses to come", { timeout: 60_000 }, async () => {
    const browser = await launch(join(scratch, "stranger"), { args: ONLY_US });
    browsers.push(browser);
    await assert.rejects(browser.pages()[0].goto(server.secure), /ERR_CERT_AUTHORITY_INVALID/);
});

test("the welcome page is good to look at on phone and desktop, light and dark", { timeout: 120_000 }, async () => {
    const browser = await open("visitor");
    const problems = await watch(browser, "visitor");
    const page = browser.pages()[0];
    for (const [size, viewport] of Object.entries(SIZES)) {
        await page.setViewportSize(viewport);
        for (const colorScheme of ["light", "dark"]) {
            await page.emulateMedia({ colorScheme });
            const answer = await page.goto(server.secure);
            assert.equal(answer.status(), 200);
            await looksRight(page, `${size}, ${colorScheme}`);
            await photograph(page, `welcome-${size}-${colorScheme}`);
        }
    }
    for (const [name, link] of [
        ["@keeper:skerry.test", "https://matrix.to/#/@keeper:skerry.test"],
        ["House rules", "https://skerry.test/rules"],
    ]) {
        assert.equal(await page.getByRole("link", { name }).getAttribute("href"), link);
    }
    // text enlarged to twice its size, and the narrowest phone
    await page.setViewportSize({ width: 320, height: 568 });
    await page.addStyleTag({ content: "html { font-size: 200% }" });
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 320);
    assert.deepEqual(problems, []);
});

/** Packs the page as a client's release: an archive with one folder in it. */
async function pack(version) {
    const folder = `reef-chat-${version}`;
    await cp(join(scratch, "build"), join(scratch, folder), { recursive: true });
    await writeFile(join(scratch, folder, "version"), version);
    const archive = join(scratch, `${folder}.tar.gz`);
    await run("tar", ["-C", scratch, "-czf", archive, folder]);
    return archive;
}

async function signIn(page, name) {
    await page.goto(server.secure);
    await page.waitForFunction(() => document.getElementById("server").value !== "");
    assert.equal(await page.inputValue("#server"), server.secure, "the configuration names the server");
    await page.fill("#user", name);
    await page.fill("#password", `${name}'s password`);
    await page.click("#login button");
    await page.waitForSelector("#chat:not([hidden])");
}

async function say(page, text) {
    await page.fill("#text", text);
    await page.click("#composer button");
}

const read = (page, text) => page.waitForSelector(`#timeline li[data-encrypted=true]:has-text("${text}")`);

/** The thumbnail in the timeline, once it can be seen; it came through the service worker. */
async function thumbnail(page) {
    const answered = page.waitForResponse((answer) => answer.url().includes("/_matrix/client/v1/media/thumbnail/"));
    const image = await page.waitForSelector("#timeline img");
    await page.waitForFunction((img) => img.complete && img.naturalWidth > 0, image);
    const answer = await answered;
    assert.equal(answer.status(), 200);
    assert.ok(answer.fromServiceWorker());
    assert.equal(answer.request().headers().authorization, undefined, "the page itself sends no token");
    return image.evaluate((img) => ({ url: img.src, width: img.naturalWidth, height: img.naturalHeight }));
}

/** Asks without a browser, and so without cookies, caches and workers. */
const ask = (path) => fetch(`${server.url}${path}`);
const version = async () => (await ask("/version")).text();

test("a client installed from its archive works, with its service worker, and goes back", { timeout: 240_000 }, async () => {
    const main = await buildPage(join(scratch, "build"));
    for (const name of ["ada", "grace"]) await register(server.url, name, `${name}'s password`);
    const [old, fresh] = [await pack("1.0"), await pack("1.1")];
    assert.match(await server.command("web", "install", "--from", old), /reef-chat-1\.0 is in use/);

    const people = { ada: await open("ada"), grace: await open("grace") };
    const problems = [await watch(people.ada, "ada"), await watch(people.grace, "grace")];
    const [ada, grace] = Object.values(people).map((browser) => browser.pages()[0]);
    await signIn(ada, "ada");
    await signIn(grace, "grace");
    const device = await ada.textContent("#whoami");

    await ada.click("#create");
    await ada.waitForSelector('#room:has-text("Reef")');
    await ada.fill("#invitee", `@grace:${NAME}`);
    await ada.click("#invite");
    await grace.click("button.accept");
    await grace.waitForSelector('#room:has-text("Reef")');
    await say(grace, "hello from the reef");
    await read(ada, "hello from the reef");
    await say(ada, "hello back");
    await read(grace, "hello back");

    // a photograph of the conversation itself, larger than its thumbnail
    const photo = await ada.screenshot();
    const arrived = thumbnail(grace);
    await ada.setInputFiles("#file", { name: "reef.png", mimeType: "image/png", buffer: photo });
    const { url, width, height } = await arrived;
    assert.ok(width > 0 && width <= 320 && height <= 240, `a thumbnail, not the picture: ${width} x ${height}`);
    const { pathname, search } = new URL(url);
    assert.equal((await ask(pathname + search)).status, 401, "without the worker's token there is no picture");

    assert.match(await server.command("web", "install", "--from", fresh), /reef-chat-1\.1 is in use/);
    assert.equal(await version(), "1.1");
    for (const page of [ada, grace]) {
        const again = thumbnail(page);
        await page.reload();
        await read(page, "hello from the reef");
        await read(page, "hello back");
        await again;
    }
    assert.equal(await ada.textContent("#whoami"), device, "still logged in, on the same device");

    assert.match(await server.command("web", "rollback"), /reef-chat-1\.0 is in use again/);
    assert.equal(await version(), "1.0");
    assert.match((await ask(`/${main}`)).headers.get("cache-control"), /immutable/);
    const answer = await ada.reload();
    assert.equal(answer.headers()["content-security-policy"], "frame-ancestors 'self'");
    await read(ada, "hello back");
    await say(ada, "after going back");
    await read(grace, "after going back");
    await photograph(ada, "client");

    // beside a client, the welcome page leads to it
    const visitor = await people.grace.newPage();
    await visitor.goto(`${server.secure}/welcome.html`);
    await looksRight(visitor, "beside a client");
    await photograph(visitor, "welcome-with-client");
    await visitor.click("text=Open the chat");
    await read(visitor, "after going back");
    assert.deepEqual(problems.flat(), []);
});
