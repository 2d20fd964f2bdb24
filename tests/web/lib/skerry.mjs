// Starts the real server in a directory of its own, and stops it again.
import { execFile, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** A port that nobody listens on right now. */
export async function freePort() {
    const probe = createServer();
    await new Promise((done) => probe.listen(0, "127.0.0.1", done));
    const { port } = probe.address();
    await new Promise((done) => probe.close(done));
    return port;
}

/** Repeats `attempt` until it returns something truthy, for at most `seconds`. */
export async function until(what, attempt, seconds = 60) {
    const end = Date.now() + seconds * 1000;
    let last;
    while (Date.now() < end) {
        try {
            const found = await attempt();
            if (found) return found;
        } catch (error) {
            last = error;
        }
        await new Promise((done) => setTimeout(done, 50));
    }
    throw new Error(`waited ${seconds} s in vain for ${what}${last ? `: ${last}` : ""}`);
}

/** One server process; `url` is where clients find it, `secure` its address under TLS, where it has one. */
export class Skerry {
    /**
     * `name` is the server's, `tls` the files of its certificate and key (then it listens there too, on the port that
     * is part of the name where there is one, and says so to clients), `more` further lines of the configuration.
     */
    static async start({ name = "localhost", tls, more = [] } = {}) {
        const binary = process.env.SKERRY_BIN;
        if (!binary) throw new Error("SKERRY_BIN must name the skerry executable (make test sets it)");
        const server = new Skerry();
        server.binary = binary;
        server.dir = await mkdtemp(join(tmpdir(), "skerry-web-test-"));
        server.port = await freePort();
        server.url = `http://127.0.0.1:${server.port}`;
        const secure = [];
        if (tls) {
            const [host, named] = name.split(":");
            const port = named ?? (await freePort());
            server.secure = `https://${host}:${port}`;
            secure.push(
                "[[listen]]",
                `addr = "127.0.0.1:${port}"`,
                `tls = { cert = "${tls.cert}", key = "${tls.key}" }`,
                "[public]",
                `base_url = "${server.secure}"`,
            );
        }
        await writeFile(
            join(server.dir, "skerry.toml"),
            [
                `server_name = "${name}"`,
                `data_dir = "${server.dir}/data"`,
                "[[listen]]",
                `addr = "127.0.0.1:${server.port}"`,
                ...secure,
                "[registration]",
                "open = true",
                "[password]",
                'cost = "minimal"',
                "[rate_limit]",
                "enabled = false",
                ...more,
                "",
            ].join("\n"),
        );
        await server.launch();
        return server;
    }

    async launch() {
        this.output = "";
        this.process = spawn(this.binary, ["serve", "--config", join(this.dir, "skerry.toml")], {
            stdio: ["ignore", "pipe", "pipe"],
        });
        const keep = (chunk) => (this.output = (this.output + chunk).slice(-20000));
        this.process.stdout.on("data", keep);
        this.process.stderr.on("data", keep);
        this.exited = new Promise((done) => this.process.on("exit", (code) => done(code)));
        let gone = false;
        this.exited.then(() => (gone = true));
        await until("the server to answer", async () => {
            if (gone) throw new Error(`the server ended early:\n${this.output}`);
            return (await fetch(`${this.url}/_matrix/client/versions`)).ok;
        });
    }

    /** Runs another command of the same executable on this server's files, and returns what it prints. */
    async command(...words) {
        const config = ["--config", join(this.dir, "skerry.toml")];
        const { stdout } = await run(this.binary, [...words, ...config]);
        return stdout;
    }

    /** Ends the process as Ctrl-C does; it must end cleanly. */
    async halt() {
        this.process.kill("SIGINT");
        const code = await this.exited;
        if (code !== 0) throw new Error(`the server ended with status ${code}:\n${this.output}`);
    }

    async restart() {
        await this.halt();
        await this.launch();
    }

    async stop() {
        await this.halt();
        await rm(this.dir, { recursive: true, force: true });
    }
}

/** Registers a person over plain HTTP and returns nothing: logging in is for the clients under test. */
export async function register(url, username, password) {
    const ask = (auth) =>
        fetch(`${url}/_matrix/client/v3/register`, {
            method: "POST",
            headers: { "Content-Type": "application/json" },
            body: JSON.stringify({ username, password, inhibit_login: true, auth }),
        });
    const { session, flows } = await (await ask()).json();
    // one stage at most: nothing to do, or policies to agree to
    const answer = await ask({ type: flows[0].stages[0], session });
    if (!answer.ok) throw new Error(`registering ${username}: ${answer.status} ${await answer.text()}`);
}
