/**
 * The names that sockets are bound to: abstract ones, of which each type of socket has its own, and paths.
 *
 * A path here is a name and nothing more: no inode is made and no directory looked at. As an inode would, it stays when its socket
 * is closed, until unlink(). Paths are compared once "." and ".." and doubled slashes are taken out, relative ones from the
 * working directory.
 */
import { posix } from "node:path";
import { ERRNO } from "af-xdp-bindings";
import { AF_UNIX } from "../constants.ts";
import { encodeAddress } from "../sockaddr.ts";
import { isPath, PATH_AT, terminated } from "./address.ts";
import type { UnixSocket } from "./socket.ts";

/** Autobound names are a null byte and five hexadecimal digits. */
const AUTOBIND_NAMES = 1 << 20;

export class Names {
  private readonly abstract = new Map<string, UnixSocket>();
  /** Null: the socket is gone, the name is not. */
  private readonly paths = new Map<string, UnixSocket | null>();

  /** Binds a socket to an address that validate() has passed. Returns 0 or -errno. */
  bind(socket: UnixSocket, address: Uint8Array): number {
    return isPath(address) ? this.bindPath(socket, terminated(address)) : this.bindAbstract(socket, address.slice());
  }

  private bindPath(socket: UnixSocket, name: Uint8Array): number {
    const key = keyOf(name);
    if (this.paths.has(key)) return -ERRNO.EADDRINUSE;
    if (socket.name !== null) return -ERRNO.EINVAL;
    this.paths.set(key, socket);
    socket.name = name;
    return 0;
  }

  private bindAbstract(socket: UnixSocket, name: Uint8Array): number {
    if (socket.name !== null) return -ERRNO.EINVAL;
    const key = abstractKey(name, socket.type);
    if (this.abstract.has(key)) return -ERRNO.EADDRINUSE;
    this.abstract.set(key, socket);
    socket.name = name;
    return 0;
  }

  /** Gives a socket without a name one that is free. */
  autobind(socket: UnixSocket): number {
    if (socket.name !== null) return 0;
    const first = Math.floor(Math.random() * AUTOBIND_NAMES);
    for (let i = 1; i <= AUTOBIND_NAMES; i++) {
      const digits = ((first + i) % AUTOBIND_NAMES).toString(16).padStart(5, "0");
      if (this.bindAbstract(socket, encodeAddress({ family: AF_UNIX, path: `\0${digits}` })) === 0) return 0;
    }
    return -ERRNO.ENOSPC;
  }

  /** The socket that is bound to an address which validate() has passed, or -errno. */
  find(address: Uint8Array, type: number): UnixSocket | number {
    if (!isPath(address)) return this.abstract.get(abstractKey(address, type)) ?? -ERRNO.ECONNREFUSED;
    const found = this.paths.get(keyOf(terminated(address)));
    if (found === undefined) return -ERRNO.ENOENT;
    if (found === null) return -ERRNO.ECONNREFUSED;
    return found.type === type ? found : -ERRNO.EPROTOTYPE;
  }

  /** unlink(2) of a path. Returns 0 or -ENOENT. */
  unlink(path: string): number {
    return this.paths.delete(pathKey(new TextEncoder().encode(path))) ? 0 : -ERRNO.ENOENT;
  }

  /** The socket is closed. A connection has the name of its listener without being bound to it. */
  remove(socket: UnixSocket): void {
    const { name, type } = socket;
    if (name === null) return;
    if (isPath(name)) {
      const key = keyOf(name);
      if (this.paths.get(key) === socket) this.paths.set(key, null);
    } else {
      const key = abstractKey(name, type);
      if (this.abstract.get(key) === socket) this.abstract.delete(key);
    }
  }
}

const latin1 = (bytes: Uint8Array): string => String.fromCharCode(...bytes);

const abstractKey = (name: Uint8Array, type: number): string => `${type} ${latin1(name.subarray(PATH_AT))}`;

/** Of an address that terminated() has made. */
const keyOf = (name: Uint8Array): string => pathKey(name.subarray(PATH_AT, -1));

function pathKey(path: Uint8Array): string {
  const directory = latin1(new TextEncoder().encode(process.cwd()));
  return posix.resolve(directory, latin1(path));
}
