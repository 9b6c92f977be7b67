// .npy files: C order, uint8 or float32, little endian.

const TYPES = { "|u1": Uint8Array, "<f4": Float32Array };

/** { shape, data } of the bytes of a file. */
export function readNpy(buffer) {
  const view = new DataView(buffer);
  const long = view.getUint8(6) > 1;
  const length = long ? view.getUint32(8, true) : view.getUint16(8, true);
  const start = (long ? 12 : 10) + length;
  const header = new TextDecoder("latin1").decode(new Uint8Array(buffer, long ? 12 : 10, length));
  const shape = header.match(/'shape':\s*\(([^)]*)\)/)[1].split(",").filter((part) => part.trim()).map(Number);
  const type = TYPES[header.match(/'descr':\s*'([^']+)'/)[1]];
  const count = shape.reduce((product, side) => product * side, 1);
  return { shape, data: new type(buffer.slice(start, start + count * type.BYTES_PER_ELEMENT)) };
}

/** The bytes of a file of float32 rows. */
export function writeNpy(rows, width) {
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${rows.length}, ${width}), }`;
  const header = text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11) + "\n";
  const bytes = new Uint8Array(10 + header.length + rows.length * width * 4);
  bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length & 255, header.length >> 8]);
  bytes.set(new TextEncoder().encode(header), 10);
  const view = new DataView(bytes.buffer, 10 + header.length);
  rows.forEach((row, i) => row.forEach((value, j) => view.setFloat32((i * width + j) * 4, value, true)));
  return bytes;
}

/** An array (n, d) as a list of rows that share its memory. */
export function rowsOf({ shape: [n, d], data }) {
  return Array.from({ length: n }, (_, i) => data.subarray(i * d, (i + 1) * d));
}
