// A tensor and a gradient that are too large for a message, in pieces. Ends with status 1 if one does
// not come out right.
//
//     node large.mjs ADDRESS FOLDER_OF_THE_PROTO

import assert from 'node:assert/strict';
import { Client, float32 } from './client.mjs';

const [address, protoFolder] = process.argv.slice(2);
const client = new Client(address, protoFolder);
const SIZE = 30_000;
const PIECE = 10_000;
const [X, Y, GRAD] = [1, 2, 3];

// CRC-32C: the polynomial of Castagnoli, its bits reversed.
const TABLE = Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit += 1) byte = (byte >>> 1) ^ (byte & 1 ? 0x82f63b78 : 0);
  return byte >>> 0;
});
function crc32c(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** Sends a part of the data; how much the server has. */
function upload(session_id, number, data, start, end) {
  return new Promise((resolve, reject) => {
    const call = client.service.Upload((error, response) => {
      if (error) reject(error);
      else resolve(response.received_bytes);
    });
    let first = { session_id, upload: number, total_bytes: data.length };
    if (start === end) call.write(first);
    for (let offset = start; offset < end; offset += PIECE) {
      const piece = data.subarray(offset, Math.min(offset + PIECE, end));
      call.write({ ...first, offset, checksum: crc32c(piece), data: piece });
      first = {};
    }
    call.end();
  });
}

/** Reads a value from an offset to its end. */
async function download(session_id, number, offset) {
  const pieces = [];
  for await (const each of client.service.Download({ session_id, download: number, offset })) {
    assert.equal(each.offset, offset);
    assert.equal(each.checksum, crc32c(each.data));
    offset += each.data.length;
    pieces.push(each.data);
  }
  return Buffer.concat(pieces);
}

const { session } = await client.call('CreateSession', {});
const data = float32(Array.from({ length: SIZE }, (_, at) => at / 8));
console.log(`of ${data.length} bytes there are`, await upload(session.id, 1, data, 0, 50_000));
console.log('the server is asked, and has', await upload(session.id, 1, data, 0, 0));
console.log('then there are', await upload(session.id, 1, data, 50_000, data.length));

const response = await client.call('Run', {
  session_id: session.id,
  sequence: {
    number: 1,
    steps: [
      { put: { output: X, upload: 1, dtype: 'DTYPE_FLOAT32', shape: [SIZE], requires_grad: true } },
      { op: { name: 'square', inputs: [X], output: Y } },
      { grad: { outputs: [Y], inputs: [X], grad_outputs: [X], output: GRAD } },
      { fetch: { tensors: [GRAD], values: true, downloads: true } },
    ],
  },
});
const { download: number } = response.result.fetched[0].value;
const whole = await download(session.id, number, 0);
assert.deepEqual(await download(session.id, number, 77_777), whole.subarray(77_777));
const expected = float32(Array.from({ length: SIZE }, (_, at) => (2 * at * at) / 64));
assert.deepEqual(whole, expected);
console.log('the gradient has', whole.length, 'bytes, and is right');
client.close();
