/** Capture files built field by field, in either byte order: nothing here comes from the code under test. */

/** Fields as [bytes, value]; a byte string is put as it is. */
export type Field = [1 | 2 | 4 | 8, number | bigint] | Uint8Array;

export function fields(little: boolean, list: readonly Field[]): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(
    list.flatMap((field) => {
      if (field instanceof Uint8Array) return [...field];
      const [size, value] = field;
      const bytes = Array.from({ length: size }, (_, i) => Number((BigInt(value) >> BigInt(8 * i)) & 255n));
      return little ? bytes : bytes.toReversed();
    }),
  );
}

const padded = (bytes: Uint8Array): Uint8Array => {
  const out = new Uint8Array((bytes.length + 3) & ~3);
  out.set(bytes);
  return out;
};

export const concat = (...parts: Uint8Array[]): Uint8Array<ArrayBuffer> => Uint8Array.from(Buffer.concat(parts));

export type Option = [code: number, value: Uint8Array];

/** pcapng in one byte order. */
export class Blocks {
  readonly little: boolean;

  constructor(little: boolean) {
    this.little = little;
  }

  raw(type: number, body: Uint8Array): Uint8Array<ArrayBuffer> {
    const total = 12 + body.length;
    return fields(this.little, [[4, type], [4, total], body, [4, total]]);
  }

  options(list: readonly Option[]): Uint8Array {
    if (list.length === 0) return new Uint8Array(0);
    const each = list.map(([code, value]) => fields(this.little, [[2, code], [2, value.length], padded(value)]));
    return concat(...each, new Uint8Array(4));
  }

  section(options: Option[] = [], version = 1): Uint8Array<ArrayBuffer> {
    const head = fields(this.little, [
      [4, 0x1a2b3c4d],
      [2, version],
      [2, 0],
      [8, -1n],
    ]);
    return this.raw(0x0a0d0d0a, concat(head, this.options(options)));
  }

  interface(options: Option[] = [], { linkType = 1, snapLength = 0 } = {}): Uint8Array<ArrayBuffer> {
    const head = fields(this.little, [
      [2, linkType],
      [2, 0],
      [4, snapLength],
    ]);
    return this.raw(1, concat(head, this.options(options)));
  }

  /** if_tsresol, if_tsoffset. */
  scale(resolution: number, offset?: bigint): Option[] {
    const options: Option[] = [[9, Uint8Array.of(resolution)]];
    if (offset !== undefined) options.push([14, fields(this.little, [[8, offset]])]);
    return options;
  }

  enhanced(id: number, stamp: bigint, data: Uint8Array, options: Option[] = [], original = data.length): Uint8Array {
    const head = fields(this.little, [
      [4, id],
      [4, stamp >> 32n],
      [4, stamp & 0xffffffffn],
      [4, data.length],
      [4, original],
    ]);
    return this.raw(6, concat(head, padded(data), this.options(options)));
  }

  simple(data: Uint8Array, original = data.length): Uint8Array {
    return this.raw(3, concat(fields(this.little, [[4, original]]), padded(data)));
  }

  /** The obsolete packet block: interface and drops of two bytes each. */
  old(id: number, stamp: bigint, data: Uint8Array): Uint8Array {
    const head = fields(this.little, [
      [2, id],
      [2, 7],
      [4, stamp >> 32n],
      [4, stamp & 0xffffffffn],
      [4, data.length],
      [4, data.length],
    ]);
    return this.raw(2, concat(head, padded(data)));
  }
}

/** A pcap file: records of [seconds, fraction, data, original length]. */
export function pcapFile(
  little: boolean,
  magic: number,
  records: readonly [number, number, Uint8Array, number?][],
  { linkType = 1, version = 2 } = {},
): Uint8Array<ArrayBuffer> {
  const head = fields(little, [
    [4, magic],
    [2, version],
    [2, 4],
    [4, 0],
    [4, 0],
    [4, 65535],
    [4, linkType],
  ]);
  const each = records.map(([seconds, fraction, data, original = data.length]) =>
    fields(little, [[4, seconds], [4, fraction], [4, data.length], [4, original], data]),
  );
  return concat(head, ...each);
}
