/**
 * A captured load against a server: made with `lcore capture -w load.pcapng`, tcpdump or Wireshark, replayed without an
 * interface or a privilege. The answers are in answers.pcapng, stamped with the capture's time, so that the two together
 * read as the conversation:
 *
 *     npx bun examples/replay.ts load.pcapng 198.18.0.1 9000
 *     mergecap -w both.pcapng load.pcapng answers.pcapng && tshark -r both.pcapng
 */
import { Engine } from "lcore";

const [file, address, port] = process.argv.slice(2);
if (port === undefined) {
  console.error("usage: replay.ts CAPTURE ADDRESS PORT: the captured host's address, and the port it served");
  process.exit(2);
}
const engine = await Engine.start({
  pcap: { file, addresses: [address], speed: "recorded", write: "answers.pcapng" },
});
const socket = engine.udp({ address: address.includes(":") ? "::" : "0.0.0.0", port: Number(port) });
socket.onDatagram = (datagram) => {
  datagram.reply();
};
const counts = await engine.replay?.run();
// What arrived last may still be being answered.
await Bun.sleep(100);
const answers = engine.replay?.counts.txFrames;
await engine.close();
console.log(`${counts?.frames} frames received, ${answers} answered`);
for (const note of engine.replay?.notes ?? []) console.log(note);
