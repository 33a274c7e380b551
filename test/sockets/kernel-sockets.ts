/** Real sockets in a namespace of their own, as the oracle for bind and look-up rules. */
import { sys } from "af-xdp-bindings";
import { waitUntilLocal } from "../../engine/host/hosts.ts";
import { NetNs } from "../../engine/host/netns.ts";
import { Rtnl } from "../../engine/host/rtnetlink.ts";
import { addressWords } from "../../sockets/fib.ts";
import { readSockaddr, SOCKADDR_IN6_BYTES, writeSockaddr } from "../../sockets/sockaddr.ts";
import { AF_INET, AF_INET6 } from "../../sockets/table.ts";
import { ip } from "../../sockets/wire/address.ts";

export const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0x80000;
const MSG_DONTWAIT = 0x40;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_REUSEPORT = 15;
const SO_BINDTOIFINDEX = 62;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
/** Interface index of lo in every namespace. */
export const LO = 1;

/** How a socket is to be bound. */
export interface Wish {
  address: string;
  family: number;
  reuseAddress: boolean;
  reusePort: boolean;
  only6: boolean;
  device: number;
}

export const familyOf = (address: string): number => (address.includes(":") ? AF_INET6 : AF_INET);

export const wish = (address: string, more: Partial<Wish> = {}): Wish => ({
  address,
  family: familyOf(address),
  reuseAddress: false,
  reusePort: false,
  only6: false,
  device: 0,
  ...more,
});

export const describeWish = ({ address, reuseAddress, reusePort, only6, device }: Wish): string =>
  [address, reuseAddress && "reuseaddr", reusePort && "reuseport", only6 && "v6only", device !== 0 && "lo"]
    .filter(Boolean)
    .join(" ");

export class KernelHost {
  private readonly ns: NetNs;
  private readonly sockaddr = new Uint8Array(SOCKADDR_IN6_BYTES);
  private readonly view = new DataView(this.sockaddr.buffer);

  /** A namespace whose lo is up and takes packets to the addresses. */
  constructor(addresses: readonly string[]) {
    this.ns = NetNs.create();
    this.ns.run(() => {
      const rtnl = new Rtnl();
      rtnl.setLink(LO, { up: true });
      const own = addresses.map((address) => ip(address));
      for (const address of own) rtnl.addAddress(LO, address, address.length * 8);
      waitUntilLocal(rtnl, own);
      rtnl.close();
    });
  }

  /** A socket, of UDP unless `type` says so, bound as wished: its descriptor, or -errno. */
  bind(
    { address, family, reuseAddress, reusePort, only6, device }: Wish,
    port: number,
    type: typeof SOCK_STREAM | typeof SOCK_DGRAM = SOCK_DGRAM,
  ): number {
    const fd = this.ns.run(() => sys.socket(family, type | SOCK_CLOEXEC, 0));
    if (fd < 0) return fd;
    sys.setsockoptInt(fd, SOL_SOCKET, SO_REUSEADDR, Number(reuseAddress));
    sys.setsockoptInt(fd, SOL_SOCKET, SO_REUSEPORT, Number(reusePort));
    if (family === AF_INET6) sys.setsockoptInt(fd, IPPROTO_IPV6, IPV6_V6ONLY, Number(only6));
    if (device !== 0) sys.setsockoptInt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, device);
    const result = sys.bind(fd, this.address(family, address, port));
    if (result === 0) return fd;
    sys.close(fd);
    return result;
  }

  connect(fd: number, family: number, address: string, port: number): number {
    return sys.connect(fd, this.address(family, address, port));
  }

  /** Local address of a socket as four words. */
  localWords(fd: number): Int32Array {
    const words = new Int32Array(4);
    const length = new Uint32Array([SOCKADDR_IN6_BYTES]);
    sys.sys3(sys.SYS.getsockname, fd, sys.addressOf(this.sockaddr), sys.addressOf(length));
    readSockaddr(this.view, words);
    return words;
  }

  /** Sends a payload, a byte unless given; over lo it has arrived when this returns. Returns the length, or -errno. */
  send(fd: number, address: string, port: number, payload = new Uint8Array(1)): number {
    const to = this.address(familyOf(address), address, port);
    return sys.sendto(fd, sys.addressOf(payload), payload.length, MSG_DONTWAIT, sys.addressOf(to), to.length);
  }

  /** Takes a datagram from a socket: whether there was one. */
  take(fd: number): boolean {
    const byte = new Uint8Array(1);
    return sys.recvfrom(fd, sys.addressOf(byte), 1, MSG_DONTWAIT, 0, 0) >= 0;
  }

  close(): void {
    this.ns.close();
  }

  private address(family: number, address: string, port: number): Uint8Array {
    const [w0, w1, w2, w3] = addressWords(ip(address));
    return this.sockaddr.subarray(0, writeSockaddr(this.view, family, w0, w1, w2, w3, port));
  }
}
