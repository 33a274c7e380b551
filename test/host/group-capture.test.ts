/** What tcpdump makes of our reports. */
import { expect, test } from "bun:test";
import { Random } from "../../queues/random.ts";
import { Igmp } from "../../sockets/host/igmp.ts";
import { Mld } from "../../sockets/host/mld.ts";
import { MCAST_EXCLUDE, MCAST_INCLUDE } from "../../sockets/host/source-filter.ts";
import { ip } from "../../sockets/wire/address.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { igmpQuery, mldQuery } from "./group-messages.ts";

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const LINKTYPE_ETHERNET = 1;

/** A capture file (pcap-savefile(5)). */
function pcap(frames: readonly Uint8Array[]): Uint8Array {
  const header = Uint32Array.of(0xa1b2c3d4, 0x00040002, 0, 0, 65535, LINKTYPE_ETHERNET);
  const records = frames.flatMap((frame) => [
    new Uint8Array(Uint32Array.of(0, 0, frame.length, frame.length).buffer),
    frame,
  ]);
  return new Uint8Array(Buffer.concat([new Uint8Array(header.buffer), ...records]));
}

function received(views: FrameViews, packet: Uint8Array): FrameViews {
  views.bytes.set(packet, 2);
  return views;
}

/** Every kind of message that a host sends, in order. */
function everything(): Uint8Array[] {
  const frames: Uint8Array[] = [];
  const options = {
    mac: MAC,
    mtu: 1500,
    random: new Random(1),
    send: (frame: Uint8Array) => void frames.push(frame.slice()),
  };
  const views = new FrameViews(new Uint8Array(2048));
  const igmp = new Igmp(options);
  igmp.address = (198 << 24) | (18 << 16) | 2;
  const mld = new Mld(options);
  mld.linkLocal = ip("fe80::2");
  igmp.join("239.1.1.1", 0);
  igmp.setFilter("232.1.1.1", MCAST_INCLUDE, ["198.18.5.1", "198.18.5.2"], 0);
  igmp.setFilter("232.1.1.1", MCAST_EXCLUDE, ["198.18.5.1"], 0);
  mld.join("ff05::1", 0);
  mld.setFilter("ff3e::1", MCAST_INCLUDE, ["2001:db8::1"], 0);
  mld.setFilter("ff3e::1", MCAST_INCLUDE, [], 0);
  igmp.receive(received(views, igmpQuery({ version: 3, code: 0 })), 2, 20_000);
  mld.receive(received(views, mldQuery({ version: 2, code: 0 })), 2, 20_000);
  igmp.tick(20_000);
  mld.tick(20_000);
  igmp.receive(received(views, igmpQuery({ version: 2 })), 2, 30_000);
  mld.receive(received(views, mldQuery({ version: 1 })), 2, 30_000);
  igmp.join("239.2.2.2", 30_000);
  igmp.leave("239.2.2.2", 30_000);
  mld.join("ff05::2", 30_000);
  mld.leave("ff05::2", 30_000);
  igmp.receive(received(views, igmpQuery({ version: 1 })), 2, 40_000);
  igmp.join("239.3.3.3", 40_000);
  return frames;
}

test.skipIf(Bun.which("tcpdump") === null)("tcpdump reads every message, and finds every checksum right", () => {
  const tcpdump = Bun.spawnSync(["tcpdump", "-nvv", "-t", "-r", "-"], { stdin: pcap(everything()) });
  const text = tcpdump.stdout.toString();
  // A packet takes a line with its IP header, one with what is in it when it is IPv4.
  const messages = text
    .replaceAll(/\n\s+/g, " ")
    .split("\n")
    .filter((line) => line !== "");
  const wanted = [
    "198.18.0.2 > 224.0.0.22: igmp v3 report, 1 group record(s) [gaddr 239.1.1.1 to_ex { }]",
    "igmp v3 report, 1 group record(s) [gaddr 232.1.1.1 allow { 198.18.5.1 198.18.5.2 }]",
    "igmp v3 report, 1 group record(s) [gaddr 232.1.1.1 to_ex { 198.18.5.1 }]",
    "HBH (rtalert: 0x0000) (padn) [icmp6 sum ok] ICMP6, multicast listener report v2, 1 group record(s) [gaddr ff05::1 to_ex { }]",
    "multicast listener report v2, 1 group record(s) [gaddr ff3e::1 allow { 2001:db8::1 }]",
    "multicast listener report v2, 1 group record(s) [gaddr ff3e::1 block { 2001:db8::1 }]",
    "igmp v3 report, 2 group record(s) [gaddr 239.1.1.1 is_ex { }] [gaddr 232.1.1.1 is_ex { 198.18.5.1 }]",
    "multicast listener report v2, 1 group record(s) [gaddr ff05::1 is_ex { }]",
    "198.18.0.2 > 239.2.2.2: igmp v2 report 239.2.2.2",
    "198.18.0.2 > 224.0.0.2: igmp leave 239.2.2.2",
    "fe80::2 > ff05::2: HBH (rtalert: 0x0000) (padn) [icmp6 sum ok] ICMP6, multicast listener report",
    "fe80::2 > ff02::2: HBH (rtalert: 0x0000) (padn) [icmp6 sum ok] ICMP6, multicast listener done",
    "198.18.0.2 > 239.3.3.3: igmp v1 report 239.3.3.3",
  ];
  for (const line of wanted) expect(messages.filter((message) => message.includes(line))).not.toEqual([]);
  for (const message of messages) {
    expect(message).not.toMatch(/bad|invalid|wrong|malformed|truncated|\[\|/i);
    expect(message).toMatch(/^IP \(tos 0xc0, ttl 1, .* options \(RA\)\)|^IP6 \(.*hlim 1, /);
  }
});
