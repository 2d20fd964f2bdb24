// Debian's Chromium, and the test page as the build of a web client.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { cp, mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { build } from "esbuild";
import { chromium } from "playwright-core";

const HERE = fileURLToPath(new URL("..", import.meta.url));
const WASM = "pkg/matrix_sdk_crypto_wasm_bg.wasm";
const run = promisify(execFile);

/**
 * Builds the page into `out` the way clients are built: what never changes lies below a folder named by its hash.
 * Returns the path of the script.
 */
export async function buildPage(out) {
    const fresh = join(out, "bundles/fresh");
    await build({
        entryPoints: [join(HERE, "page/main.js")],
        bundle: true,
        format: "esm",
        outdir: fresh,
        define: { global: "globalThis" },
        logLevel: "error",
    });
    await mkdir(join(fresh, dirname(WASM)));
    await cp(join(HERE, "node_modules/@matrix-org/matrix-sdk-crypto-wasm", WASM), join(fresh, WASM));
    const hash = createHash("sha256").update(await readFile(join(fresh, "main.js"))).digest("hex").slice(0, 20);
    await rename(fresh, join(out, "bundles", hash));
    await cp(join(HERE, "page/sw.js"), join(out, "sw.js"));
    const main = `bundles/${hash}/main.js`;
    const html = await readFile(join(HERE, "page/index.html"), "utf8");
    await writeFile(join(out, "index.html"), html.replace('src="main.js"', `src="${main}"`));
    return main;
}

/** Opens a browser whose profile and home lie in `dir`; `more` are further settings of Playwright. */
export function launch(dir, { args = [], ...more } = {}) {
    return chromium.launchPersistentContext(join(dir, "profile"), {
        executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
        args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", ...args],
        env: { ...process.env, HOME: dir },
        ...more,
    });
}

/** Puts a root certificate where a Chromium with this home looks for those that its user trusts. */
export async function trust(home, certificate) {
    const store = join(home, ".pki/nssdb");
    await mkdir(store, { recursive: true });
    await run("certutil", ["-d", `sql:${store}`, "-N", "--empty-password"]);
    await run("certutil", ["-d", `sql:${store}`, "-A", "-n", "test", "-t", "C,,", "-i", certificate]);
}
