// Runs golden rows through onnxruntime-node, in batches and each alone, and holds the answers against those written down.
//
// Usage: node replay.mjs CASES.json
//
// The file is a list of cases, as `tests/node/cases.py` writes it. Prints one line for each, as JSON; the exit status is
// 1 where one of them answers otherwise.

import { readFileSync } from "node:fs";
import ort from "onnxruntime-node";

const ARRAYS = { float32: Float32Array, int64: BigInt64Array, int32: Int32Array, uint8: Uint8Array };

function tensorOf({ dtype, dims, base64 }) {
  const bytes = Buffer.from(base64, "base64");
  // a copy: what Buffer returns may begin anywhere in a shared block
  const array = new ARRAYS[dtype](new Uint8Array(bytes).buffer);
  return new ort.Tensor(dtype, array, dims);
}

function rowsOf(tensor, start, end) {
  const perRow = tensor.dims.slice(1).reduce((product, axis) => product * axis, 1);
  const data = tensor.data.slice(start * perRow, end * perRow);
  return new ort.Tensor(tensor.type, data, [end - start, ...tensor.dims.slice(1)]);
}

async function run(session, inputs, rows, batch, outputs) {
  const found = Object.fromEntries(outputs.map((name) => [name, []]));
  for (let start = 0; start < rows; start += batch) {
    const end = Math.min(start + batch, rows);
    const feeds = Object.fromEntries(
      Object.entries(inputs).map(([name, tensor]) => [name, rowsOf(tensor, start, end)]),
    );
    const answers = await session.run(feeds, outputs);
    for (const name of outputs) {
      if (answers[name].dims[0] !== end - start) {
        throw new Error(`${name} has ${answers[name].dims[0]} rows for ${end - start}`);
      }
      for (const value of answers[name].data) found[name].push(value);
    }
  }
  return found;
}

function worst(actual, expected, { atol, rtol }) {
  if (actual.length !== expected.length) {
    return { difference: null, excess: Infinity };
  }
  let difference = 0;
  let excess = -Infinity;
  for (let i = 0; i < actual.length; i += 1) {
    const distance = Math.abs(actual[i] - expected[i]);
    difference = Math.max(difference, distance);
    const beyond = distance - (atol + rtol * Math.abs(expected[i]));
    // NaN compares as false, and must not pass
    excess = Number.isFinite(beyond) ? Math.max(excess, beyond) : Infinity;
  }
  return { difference, excess };
}

async function replay(item) {
  const session = await ort.InferenceSession.create(item.model, { intraOpNumThreads: 1, interOpNumThreads: 1 });
  const inputs = Object.fromEntries(Object.entries(item.inputs).map(([name, value]) => [name, tensorOf(value)]));
  const names = Object.keys(item.outputs);
  const batched = await run(session, inputs, item.rows, item.maxRows, names);
  const alone = await run(session, inputs, item.rows, 1, names);
  const differences = {};
  let isRight = true;
  for (const name of names) {
    const expected = Array.from(tensorOf(item.outputs[name]).data);
    const replayed = worst(batched[name], expected, item.tolerance[name]);
    const mates = worst(alone[name], batched[name], item.batchTolerance);
    differences[name] = { replay: replayed.difference, batch: mates.difference };
    isRight = isRight && replayed.excess <= 0 && mates.excess <= 0;
  }
  await session.release();
  return { label: item.label, rows: item.rows, isRight, differences };
}

const cases = JSON.parse(readFileSync(process.argv[2], "utf8"));
let status = 0;
for (const item of cases) {
  const outcome = await replay(item);
  console.log(JSON.stringify(outcome));
  if (!outcome.isRight) status = 1;
}
process.exitCode = status;
