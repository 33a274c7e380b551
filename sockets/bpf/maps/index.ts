/** Maps by type: made here, opened from a descriptor in another thread. */
import { ArrayMap, SocketArrayMap, type SocketRegistry } from "./array-map.ts";
import { HashMap } from "./hash-map.ts";
import {
  describeMap,
  mapBytes,
  type SharedMap,
  type SharedMapDescriptor,
  type SharedMapOptions,
} from "./shared-map.ts";

export { ArrayMap, SocketArrayMap, type SocketRegistry } from "./array-map.ts";
export { HashMap } from "./hash-map.ts";
export * from "./shared-map.ts";

const CLASSES = {
  array: ArrayMap,
  percpu_array: ArrayMap,
  hash: HashMap,
  reuseport_sockarray: SocketArrayMap,
} as const;

/** The class of maps of a type. */
export type MapOf<Type extends SharedMapOptions["type"]> = InstanceType<(typeof CLASSES)[Type]>;

/** Makes a map. Throws RangeError where sizes do not suit its type. */
export function createSharedMap<Type extends SharedMapOptions["type"]>(
  options: SharedMapOptions & { readonly type: Type },
): MapOf<Type> {
  return openSharedMap(describeMap(options, CLASSES[options.type].bytes)) as MapOf<Type>;
}

/** The same map in another thread. `registry` says which sockets a map of sockets may have; none: any. */
export function openSharedMap(descriptor: SharedMapDescriptor, registry: SocketRegistry | null = null): SharedMap {
  return descriptor.type === "reuseport_sockarray"
    ? new SocketArrayMap(descriptor, registry)
    : new CLASSES[descriptor.type](descriptor);
}

/** Bytes that a map with these options takes. Throws RangeError. */
export const sharedMapBytes = (options: Required<SharedMapOptions>): number =>
  mapBytes(options, CLASSES[options.type].bytes);
