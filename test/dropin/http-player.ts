/** Plays the cases against servers: `bun test/dropin/http-player.ts ADDRESS PORT`. Prints what has come, a line of JSON a case. */
import { connect } from "node:net";
import { httpCases, type Play } from "./http-cases.ts";

const PATIENCE_MS = 5000;
/** What differs from run to run. */
const VARIABLE: readonly (readonly [RegExp, string])[] = [[/^Date: .*\r$/gm, "Date: then\r"]];

const [address, first] = process.argv.slice(2);

function play(port: number, steps: Play): Promise<string> {
  return new Promise((resolve) => {
    let come = "";
    const socket = connect({ host: address, port, allowHalfOpen: true });
    const timer = setTimeout(() => {
      come += "<in vain>";
      socket.destroy();
    }, PATIENCE_MS);
    socket.on("data", (bytes) => {
      come += bytes.toString("latin1");
    });
    socket.on("end", () => socket.end());
    // How a connection ends that the server has cut is a race between FIN and RST.
    socket.on("error", () => {});
    socket.on("close", () => {
      clearTimeout(timer);
      resolve(come);
    });
    socket.on("connect", async () => {
      socket.setNoDelay(true);
      for (const step of steps) {
        if (typeof step === "number") await Bun.sleep(step);
        else if (step === "FIN") socket.end();
        else if (step === "RST") socket.resetAndDestroy();
        else if (socket.writable) socket.write(Buffer.from(step, "latin1"));
      }
    });
  });
}

/** Answers are long: what repeats is counted. */
const shortened = (text: string): string => text.replace(/(.)\1{99,}/g, (run, one) => `<${run.length} ${one}>`);

for (const [i, [name, { play: steps }]] of Object.entries(httpCases).entries()) {
  let come = await play(Number(first) + i, steps);
  for (const [from, to] of VARIABLE) come = come.replace(from, to);
  console.log(JSON.stringify({ name, come: shortened(come) }));
}
process.exit();
