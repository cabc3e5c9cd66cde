// The tutorial on computation graphs, each fact in one call, and a model that the server keeps. Ends with
// status 1 if one is not so.
//
//     node tutorial.mjs ADDRESS FOLDER_OF_THE_PROTO

import assert from 'node:assert/strict';
import { Client, Refusal, float32 } from './client.mjs';

const [address, protoFolder] = process.argv.slice(2);
const client = new Client(address, protoFolder);

const put = (output, payload, size, requires_grad) => ({
  put: { output, payload, dtype: 'DTYPE_FLOAT32', shape: [size], requires_grad },
});
const op = (name, input, output, argument, int_value) => ({
  op: { name, inputs: [input], output, attributes: [{ name: argument, int_value }] },
});
const getGrad = (tensor, output) => ({ get_grad: { tensors: [tensor], outputs: [output] } });
const values = (...tensors) => ({ fetch: { tensors, values: true } });
const info = (...tensors) => ({ fetch: { tensors, info: true } });

const [X, Z, Y, V, GRAD] = [1, 2, 3, 4, 5];

async function valueAndGradient() {
  const [y, gradient, ...infos] = await client.run(
    [
      put(X, 0, 1, true),
      op('add', X, Z, 'other', 2),
      op('pow', Z, Y, 'exponent', 2),
      { backward: { tensors: [Y] } },
      getGrad(X, GRAD),
      values(Y, GRAD),
      info(Y, Z, X),
    ],
    [float32([3])],
  );
  assert.deepEqual(y.values, [25]);
  assert.deepEqual(gradient.values, [10]);
  const makers = infos.map((each) => each.info.grad_fn?.name ?? 'none');
  assert.deepEqual(makers, ['PowBackward0', 'AddBackward0', 'none']);
  assert.ok(infos[2].info.is_leaf);
  console.log(`y = ${y.values}, dy/dx = ${gradient.values}`);
  console.log(`grad_fn of y, z, x: ${makers.join(', ')}`);
}

async function vectorJacobianProduct() {
  const [gradient] = await client.run(
    [
      put(X, 0, 2, true),
      put(V, 1, 2, false),
      op('pow', X, Y, 'exponent', 2),
      { backward: { tensors: [Y], gradients: [V] } },
      getGrad(X, GRAD),
      values(GRAD),
    ],
    [float32([1, 2]), float32([0.3, 0.7])],
  );
  const rounded = gradient.values.map((each) => Number(each.toFixed(6)));
  assert.deepEqual(rounded, [0.6, 2.8]);
  console.log(`in the direction 0.3, 0.7: ${rounded.join(', ')}`);
}

async function vectorWithoutDirection() {
  const backward = client.run(
    [put(X, 0, 2, true), op('pow', X, Y, 'exponent', 2), { backward: { tensors: [Y] } }],
    [float32([1, 2])],
  );
  await assert.rejects(backward, (refusal) => {
    assert.ok(refusal instanceof Refusal);
    assert.equal(refusal.code, 'INVALID_ARGUMENT');
    assert.equal(refusal.domain, 'gradwire');
    assert.equal(refusal.reason, 'NON_SCALAR_ROOT');
    assert.match(refusal.message, /gradient=/);
    console.log(`without a direction: ${refusal.code}, ${refusal.reason}`);
    return true;
  });
}

async function modelByName() {
  const { session } = await client.call('CreateSession', {});
  const [WEIGHT, PRODUCT, SUM] = [6, 7, 8];
  await client.run([put(WEIGHT, 0, 2, false)], [float32([2, 10])], session.id);
  await client.call('CreateProgram', {
    session_id: session.id,
    name: 'model',
    program: {
      inputs: [X, WEIGHT],
      steps: [
        { op: { name: 'mul', inputs: [X, WEIGHT], output: PRODUCT } },
        { op: { name: 'sum', inputs: [PRODUCT], output: SUM } },
      ],
      outputs: [SUM],
    },
    bindings: [{ input: WEIGHT, tensor: WEIGHT }],
  });
  const [y, gradient] = await client.run(
    [
      put(X, 0, 2, true),
      { call_program: { program: 'model', inputs: [X], output: Y } },
      { backward: { tensors: [Y] } },
      getGrad(X, GRAD),
      values(Y, GRAD),
    ],
    [float32([1, 0.5])],
    session.id,
  );
  console.log(`a model by name: ${y.values}, and its gradient: ${gradient.values.join(', ')}`);
  await client.call('DeleteSession', { session_id: session.id });
}

try {
  await valueAndGradient();
  await vectorJacobianProduct();
  await vectorWithoutDirection();
  await modelByName();
} finally {
  client.close();
}
