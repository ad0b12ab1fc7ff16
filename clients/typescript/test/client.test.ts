import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { status } from "@grpc/grpc-js";

import { FrameDecoderService, ShoppableClient, ShoppableError } from "../src/index.js";
import { Told } from "./told.js";

const probe = FrameDecoderService.method.probeVideo;
let told: Told;
let client: ShoppableClient;
let folder: string;

beforeEach(async () => {
  told = new Told();
  client = new ShoppableClient(await told.start(), { apiKey: "k-123", token: "t-456" });
  folder = await mkdtemp(join(tmpdir(), "shoppable-"));
});

afterEach(async () => {
  client.close();
  told.stop();
  await rm(folder, { recursive: true });
});

async function film(size: number): Promise<{ file: string }> {
  const file = join(folder, "film.mp4");
  await writeFile(file, Buffer.alloc(size));
  return { file };
}

async function drain<T>(answers: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const answer of answers) all.push(answer);
  return all;
}

async function until(condition: () => boolean): Promise<void> {
  for (let left = 500; !condition(); left--) {
    assert.ok(left > 0, "it never came");
    await sleep(20);
  }
}

test("calls are retried as the service config says", async () => {
  told.failures = 2;
  assert.equal((await client.call(probe, {})).video?.codec, "h264");
  assert.equal(told.attempts, 3);
  told.failures = 99;
  await assert.rejects(client.call(probe, {}), (error: unknown) => {
    assert.ok(error instanceof ShoppableError);
    assert.equal(error.code, status.UNAVAILABLE);
    assert.equal(error.retryAfterMs, 1500);
    return true;
  });
});

test("a file is uploaded whole", async () => {
  const answers = await drain(client.decode(await film(1_000_001)));
  assert.deepEqual(answers.map(({ response }) => response.case), ["video", "summary"]);
  assert.equal(told.bytes, 1_000_001);
});

test("a refusal in the middle of an upload arrives whole", async () => {
  told.refuse = true;
  await assert.rejects(drain(client.decode(await film(64 * 2 ** 20))), (error: unknown) => {
    assert.ok(error instanceof ShoppableError);
    assert.equal(error.code, status.INVALID_ARGUMENT);
    assert.equal(error.reason, "NOT_LIKED");
    assert.deepEqual({ ...error.metadata }, { a: "b" });
    assert.deepEqual(error.violations, [{ field: "config.source", description: "must be liked" }]);
    return true;
  });
});

test("an error of the upload itself reaches who reads", async () => {
  async function* torn(): AsyncGenerator<Uint8Array> {
    yield Buffer.alloc(1000);
    throw new Error("the disk is gone");
  }
  await assert.rejects(drain(client.decode({ bytes: torn() })), /the disk is gone/);
  await assert.rejects(drain(client.decode({ file: join(folder, "none.mp4") })), { code: "ENOENT" });
});

test("leaving the loop cancels the work", async () => {
  told.hang = true;
  for await (const _ of client.decode({ uri: "file:///film.mp4" })) break;
  await until(() => told.cancelled);
});

test("a signal cancels the work with its own reason", async () => {
  told.hang = true;
  const stop = new AbortController();
  setTimeout(() => stop.abort(new Error("enough")), 100);
  await assert.rejects(drain(client.decode({ uri: "a:b" }, {}, { signal: stop.signal })), /enough/);
  await until(() => told.cancelled);
  await assert.rejects(client.call(probe, {}, { signal: AbortSignal.abort(new Error("too late")) }), /too late/);
});

test("a deadline ends a stream", async () => {
  told.hang = true;
  await assert.rejects(drain(client.decode({ uri: "a:b" }, {}, { timeoutMs: 200 })), {
    name: "ShoppableError",
    code: status.DEADLINE_EXCEEDED,
  });
});

test("key and token go with every call", async () => {
  const identity = () => [told.metadata.get("x-api-key"), told.metadata.get("authorization")];
  await client.call(probe, {});
  assert.deepEqual(identity(), [["k-123"], ["Bearer t-456"]]);
  await drain(client.decode({ uri: "a:b" }));
  assert.deepEqual(identity(), [["k-123"], ["Bearer t-456"]]);
});
