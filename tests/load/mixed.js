// All RPCs of a suite at a time, each at its own steady rate, whether or not answers come: what strangers do together.
// `make load` writes the folder of requests and starts this; by hand:
//   k6 run -e REQUESTS=FOLDER -e SECONDS=20 -e ADDRESSES='{"decoder": "127.0.0.1:50051", ...}' tests/load/mixed.js
// With -e ONLY=DetectObjects only that RPC is asked for, and with -e RATE=600 so often a minute.
import { check } from 'k6';
import exec from 'k6/execution';
import grpc from 'k6/net/grpc';

const folder = __ENV.REQUESTS;
const addresses = JSON.parse(__ENV.ADDRESSES);
const seconds = Number(__ENV.SECONDS || 20);
const rpcs = JSON.parse(open(`${folder}/rpcs.json`)).filter((rpc) => !__ENV.ONLY || rpc.name === __ENV.ONLY);
const requests = Object.fromEntries(rpcs.map((rpc) => [rpc.name, open(`${folder}/${rpc.name}.json`)]));
const client = new grpc.Client();
client.loadProtoset(`${folder}/shoppable.binpb`);

export const options = {
  scenarios: Object.fromEntries(rpcs.map((rpc) => [rpc.name, scenario(rpc)])),
  // A duration and a share for each RPC, in the summary.
  thresholds: Object.fromEntries(
    rpcs.flatMap((rpc) => [
      [`checks{scenario:${rpc.name}}`, ['rate>0.99']],
      [`iteration_duration{scenario:${rpc.name}}`, ['max>0']],
    ]),
  ),
  summaryTrendStats: ['med', 'p(95)', 'p(99)', 'max'],
};

function scenario(rpc) {
  return {
    executor: 'constant-arrival-rate',
    rate: Number(__ENV.RATE || rpc.mixed_per_min),
    timeUnit: '1m',
    duration: `${seconds}s`,
    gracefulStop: '10s',
    preAllocatedVUs: 2,
    maxVUs: 64,
    exec: rpc.streams ? 'stream' : 'call',
    // What is made in the mixed traffic is deleted there, a little later.
    startTime: rpc.name.startsWith('Delete') ? '2s' : '0s',
  };
}

let connected;

function connect(rpc) {
  if (connected !== rpc.server) {
    client.close();
    client.connect(addresses[rpc.server], { plaintext: true, maxReceiveSize: 32 * 1024 * 1024 });
    connected = rpc.server;
  }
}

function now() {
  const rpc = rpcs.find((one) => one.name === exec.scenario.name);
  connect(rpc);
  return [rpc, JSON.parse(requests[rpc.name].replaceAll('{{.RequestNumber}}', `mixed-${exec.scenario.iterationInTest}`))];
}

export function call() {
  const [rpc, request] = now();
  const response = client.invoke(rpc.path, request);
  check(response, { OK: (answer) => answer && answer.status === grpc.StatusOK });
}

export async function stream() {
  const [rpc, request] = now();
  const error = await new Promise((resolve) => {
    const stream = new grpc.Stream(client, rpc.path);
    stream.on('data', () => {});
    stream.on('error', resolve);
    stream.on('end', () => resolve(null));
    for (const message of rpc.client_streams ? request : [request]) {
      stream.write(message);
    }
    stream.end();
  });
  check(error, { OK: (answer) => answer === null });
}
