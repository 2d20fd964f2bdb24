// A certificate authority for one test, and a certificate that it signed.
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Writes a root certificate and one for `name` into `dir`; returns the three files that somebody needs. */
export async function authority(dir, name) {
    const file = (of) => join(dir, of);
    const make = async (what, subject, extensions, more) => {
        const config = ["[req]", "distinguished_name = dn", "x509_extensions = ext", "[dn]", "[ext]", ...extensions, ""];
        await writeFile(file(`${what}.cnf`), config.join("\n"));
        await run("openssl", ["req", "-x509", "-config", file(`${what}.cnf`), "-subj", `/CN=${subject}`, "-days", "2",
            "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", file(`${what}.key`), "-out", file(`${what}.pem`), ...more]);
    };
    const root = ["basicConstraints = critical, CA:true", "keyUsage = critical, keyCertSign, cRLSign",
        "subjectKeyIdentifier = hash"];
    const leaf = ["basicConstraints = critical, CA:false", "keyUsage = critical, digitalSignature",
        "extendedKeyUsage = serverAuth", `subjectAltName = DNS:${name}`, "authorityKeyIdentifier = keyid"];
    await make("root", "Skerry test root", root, []);
    await make("leaf", name, leaf, ["-CA", file("root.pem"), "-CAkey", file("root.key")]);
    return { root: file("root.pem"), cert: file("leaf.pem"), key: file("leaf.key") };
}
