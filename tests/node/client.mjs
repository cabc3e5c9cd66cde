// A client of gradwire made from the .proto and nothing else: unary calls, most with no session.

import { fileURLToPath } from 'node:url';
import * as grpc from '@grpc/grpc-js';
import * as protoLoader from '@grpc/proto-loader';

// Names as the .proto has them; handles, which are small here, as plain numbers.
const LOADING = { keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true };
const DEADLINE_MS = 60_000;
const DETAILS = 'grpc-status-details-bin';

const rpc = protoLoader.loadSync(fileURLToPath(new URL('status.proto', import.meta.url)), LOADING);

/** A failed call: its canonical code by name, and what its google.rpc.ErrorInfo says. */
export class Refusal extends Error {
  constructor(error) {
    super(error.details);
    this.code = grpc.status[error.code];
    const [bytes] = error.metadata.get(DETAILS);
    const status = rpc['google.rpc.Status'].deserialize(bytes);
    const packed = status.details.find((each) => each.type_url.endsWith('/google.rpc.ErrorInfo'));
    Object.assign(this, rpc['google.rpc.ErrorInfo'].deserialize(packed.value));
  }
}

/** Calls one server. */
export class Client {
  constructor(address, protoFolder) {
    const contract = protoLoader.loadSync('gradwire/v1/autograd.proto', {
      ...LOADING,
      includeDirs: [protoFolder],
    });
    const { AutogradService } = grpc.loadPackageDefinition(contract).gradwire.v1;
    this.service = new AutogradService(address, grpc.credentials.createInsecure());
  }

  /** Makes a unary call; its response, or a Refusal. */
  call(method, request) {
    const deadline = new Date(Date.now() + DEADLINE_MS);
    return new Promise((resolve, reject) => {
      this.service[method](request, { deadline }, (error, response) => {
        if (error) reject(error.metadata.get(DETAILS).length ? new Refusal(error) : error);
        else resolve(response);
      });
    });
  }

  /** Runs steps, in a session of their own if none is named; what they fetched, or a Refusal. */
  async run(steps, payloads = [], session_id = '') {
    const response = await this.call('Run', { session_id, sequence: { steps }, payloads });
    return response.result.fetched.map((each) => fetched(each, response.payloads));
  }

  close() {
    this.service.close();
  }
}

/** The bytes of a float32 tensor: little-endian, whatever this machine is. */
export function float32(values) {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, index) => bytes.writeFloatLE(value, 4 * index));
  return bytes;
}

function fetched({ value, info }, payloads) {
  return { info, values: value && floats(payloads[value.payload]) };
}

function floats(bytes) {
  return Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readFloatLE(4 * index));
}
