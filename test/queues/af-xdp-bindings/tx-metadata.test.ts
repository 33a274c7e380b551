import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { abi, TxMetadata, Umem } from "af-xdp-bindings";
import { makeHosts, requires, type VethPair } from "../../support/hosts.ts";
import { Cleanup, complete, Endpoint, flush, frame, receive, redirectTo, stock } from "./support.ts";

const METADATA = 24;
const ADDRESS = 3 * 2048 + 64;

test("a timestamp is split into seconds and nanoseconds exactly, far beyond 2^53", () => {
  const umem = new Umem({ chunks: 1, txMetadata: METADATA });
  const metadata = new TxMetadata(umem);
  const view = new DataView(umem.memory.buffer, umem.memory.byteOffset);
  for (const ns of [0n, 999_999_999n, 1_000_000_000n, 1_764_000_000_123_456_789n, 2n ** 63n + 17n, 2n ** 64n - 1n]) {
    view.setBigUint64(64 - METADATA + abi.xsk_tx_metadata.tx_timestamp, ns, true);
    expect(BigInt(metadata.timestampSeconds(64))).toBe(ns / 1_000_000_000n);
    expect(BigInt(metadata.timestampNanoseconds(64))).toBe(ns % 1_000_000_000n);
  }
});

test("a launch time is written exactly", () => {
  const umem = new Umem({ chunks: 1, txMetadata: METADATA });
  const view = new DataView(umem.memory.buffer, umem.memory.byteOffset);
  for (const [seconds, nanoseconds] of [
    [0, 1],
    [1_764_000_000, 999_999_999],
    [18_446_744_073, 709_551_615],
  ]) {
    new TxMetadata(umem).setLaunchTime(64, seconds, nanoseconds);
    expect(view.getBigUint64(64 - METADATA + abi.xsk_tx_metadata.launch_time, true)).toBe(
      BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds),
    );
  }
});

test("a UMEM without room for metadata is refused", () => {
  expect(() => new TxMetadata(new Umem({ chunks: 1 }))).toThrow("set txMetadata");
});

describe.skipIf(requires("netns", "veth", "af_xdp", "bpf") !== "")("TX metadata in copy mode over veth", () => {
  const cleanup = new Cleanup();
  let hosts: VethPair;

  beforeAll(() => {
    hosts = makeHosts({ ipv6: false });
  });
  afterEach(() => cleanup.run());
  afterAll(() => hosts.close());

  /** Sends one frame with what `prepare` requested; the frame as received, and the UMEM's metadata view. */
  function exchange(softwareChecksum: boolean, prepare: (metadata: TxMetadata, data: Uint8Array) => void) {
    const a = new Endpoint(cleanup, hosts.a, { txMetadata: METADATA, softwareChecksum });
    const b = new Endpoint(cleanup, hosts.b);
    redirectTo(cleanup, hosts.b, [b.xsk], "skb");
    stock(b.xsk, 0, 8);
    const bytes = frame(hosts.a, hosts.b, 101, 9);
    const metadata = new TxMetadata(a.umem);
    prepare(metadata, bytes);
    a.umem.memory.set(bytes, ADDRESS);
    a.xsk.tx.set(0, ADDRESS, bytes.length, abi.XDP_TX_METADATA);
    a.xsk.tx.submit(1);
    const kicked = flush(a.xsk);
    return { sent: bytes, received: receive(b.xsk, 1, 100), completed: complete(a.xsk, 1), kicked, metadata, a };
  }

  // Over a real device without checksum offload (veth here has it off) the kernel's stack finishes it as well, but
  // an XSK's frames bypass the stack: only XDP_UMEM_TX_SW_CSUM is certain to fill the field in copy mode.
  test("a requested checksum is finished by the kernel", () => {
    const START = 14;
    const OFFSET = 6;
    const { sent, received } = exchange(true, (metadata, data) => {
      data.fill(0, START + OFFSET, START + OFFSET + 2);
      metadata.request(ADDRESS, abi.XDP_TXMD_FLAGS_CHECKSUM);
      metadata.setChecksum(ADDRESS, START, OFFSET);
    });
    const expected = sent.slice();
    new DataView(expected.buffer).setUint16(START + OFFSET, internetChecksum(sent.subarray(START)));
    expect(received.map((f) => f.bytes)).toEqual([expected]);
  });

  test("a requested timestamp is there when the completion is: now, in TAI", () => {
    const { metadata, completed } = exchange(false, (metadata) => {
      metadata.request(ADDRESS, abi.XDP_TXMD_FLAGS_TIMESTAMP);
    });
    expect(completed).toEqual([ADDRESS]);
    const seconds = metadata.timestampSeconds(ADDRESS) + metadata.timestampNanoseconds(ADDRESS) / 1e9;
    // TAI is ahead of UTC by 37 s; a host that was never told the offset has 0.
    const ahead = seconds - Date.now() / 1000;
    expect(Math.abs(ahead) < 2 || Math.abs(ahead - 37) < 2).toBe(true);
  });

  test("a launch time is accepted, and a device that has no such thing sends at once", () => {
    const { sent, received } = exchange(false, (metadata) => {
      metadata.request(ADDRESS, abi.XDP_TXMD_FLAGS_LAUNCH_TIME);
      metadata.setLaunchTime(ADDRESS, Math.floor(Date.now() / 1000) + 1000, 0);
    });
    expect(received.map((f) => f.bytes)).toEqual([sent]);
  });

  test("an unknown request, and a checksum field outside the frame, hold the frame back with EINVAL", () => {
    const prepares: ((metadata: TxMetadata) => void)[] = [
      (metadata) => metadata.request(ADDRESS, 1 << 20),
      (metadata) => {
        metadata.request(ADDRESS, abi.XDP_TXMD_FLAGS_CHECKSUM);
        metadata.setChecksum(ADDRESS, 90, 10);
      },
    ];
    for (const prepare of prepares) {
      const { received, kicked, a } = exchange(false, prepare);
      expect([kicked, received.length, a.xsk.tx.pending()]).toEqual([-22, 0, 1]);
      cleanup.run();
    }
  });
});

/** RFC 1071. */
function internetChecksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i] << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
