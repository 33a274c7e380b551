/** TLS of lcore/tls with OpenSSL's own client and server at the other end, on the kernel's TCP over veth. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { useEngine } from "../../engine/dropin/default-engine.ts";
import tls from "../../engine/dropin/tls.ts";
import { CERT, KEY } from "../dropin/certificate.ts";
import { requires } from "../support/hosts.ts";
import { Bed, payload, sha256 } from "./peers.ts";

setDefaultTimeout(60_000);

const PORT = 7443;
const missing = Bun.which("openssl") === null ? "openssl" : requires("veth", "af_xdp", "bpf");
const VERSIONS = ["-tls1_2", "-tls1_3"] as const;

/** What comes until the end. */
function all(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  return new Promise((resolve, reject) => {
    stream.on("end", () => resolve(Buffer.concat(chunks)));
    stream.on("error", reject);
  });
}

describe.skipIf(missing !== "")(`openssl${missing && `: ${missing}`}`, () => {
  const up = payload(300_000);
  const down = payload(1 << 20).reverse();
  let bed: Bed;
  let directory: string;
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "lcore-tls-"));
    writeFileSync(join(directory, "cert.pem"), CERT);
    writeFileSync(join(directory, "key.pem"), KEY);
    bed = await Bed.make();
    useEngine(bed.engine);
  });
  afterAll(async () => {
    useEngine(null);
    await bed.close();
    rmSync(directory, { recursive: true });
  });

  test.each(VERSIONS)("s_client %s: both streams whole, over IPv4 and IPv6", async (version) => {
    for (const host of [bed.hosts.b.ipv4Text, `[${bed.hosts.b.ipv6Text}]`]) {
      let got = Buffer.alloc(0);
      const server = tls.createServer({ cert: CERT, key: KEY }, (socket) => {
        socket.on("data", (chunk: Buffer) => {
          got = Buffer.concat([got, chunk]);
          // s_client sends until its input ends, and then waits for us.
          if (got.length === up.length) socket.end(down);
        });
      });
      await new Promise<void>((resolve) => server.listen(PORT, host.replace(/[[\]]/g, ""), resolve));
      const command = ["openssl", "s_client", "-quiet", version, "-CAfile", join(directory, "cert.pem")];
      const output = await bed.run([...command, "-verify_return_error", "-connect", `${host}:${PORT}`], up);
      expect(sha256(got)).toBe(sha256(up));
      expect(sha256(output)).toBe(sha256(down));
      await new Promise((resolve) => server.close(resolve));
    }
    await bed.untilEmpty();
  });

  test.each(VERSIONS)("s_server %s: both streams whole", async (version) => {
    const files = ["-cert", join(directory, "cert.pem"), "-key", join(directory, "key.pem")];
    const where = ["-accept", `${bed.hosts.a.ipv4Text}:${PORT}`, "-naccept", "1"];
    const server = bed.spawn(["openssl", "s_server", "-quiet", version, ...files, ...where], down);
    try {
      const heard = server.stdout.bytes();
      await bed.untilListening(PORT);
      const socket = tls.connect({ host: bed.hosts.a.ipv4Text, port: PORT, ca: CERT });
      const ended = all(socket);
      socket.write(up);
      let got = 0;
      socket.on("data", (chunk: Buffer) => {
        got += chunk.length;
        if (got === down.length) socket.end();
      });
      expect(sha256(await ended)).toBe(sha256(down));
      expect(sha256(await heard)).toBe(sha256(up));
      expect(await server.exited).toBe(0);
    } finally {
      server.kill("SIGKILL");
    }
    await bed.untilEmpty();
  });
});
