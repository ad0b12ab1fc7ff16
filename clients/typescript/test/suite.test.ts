import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { status } from "@grpc/grpc-js";

import {
  FrameDecoderService,
  MatchDecisionSchema,
  OrchestratorService,
  ProductCatalogService,
  ShoppableClient,
  ShoppableError,
  type ShoppableObject,
  type Source,
} from "../src/index.js";

const tell = (name: string) => process.env[`SHOPPABLE_TEST_${name}`] ?? "";
const skip = !tell("ORCHESTRATOR") && "needs a running suite: make test-clients";

describe("against a running suite", { skip }, () => {
  const client = new ShoppableClient(tell("ORCHESTRATOR"));
  const catalog = tell("CATALOG");
  after(() => client.close());

  function essence(objects: ShoppableObject[]): unknown[] {
    return objects
      .map((item) => ({
        object_id: item.objectId,
        label: item.label,
        category: item.category,
        decision: MatchDecisionSchema.value[item.decision]?.name,
        products: item.products.map(({ product }) => product?.name),
        start_ms:
          Number(item.segments[0]?.start?.seconds) * 1000 + Math.trunc((item.segments[0]?.start?.nanos ?? 0) / 1e6),
      }))
      .sort((a, b) => (a.object_id < b.object_id ? -1 : 1));
  }

  const expected = () => JSON.parse(readFileSync(tell("EXPECTED"), "utf8")) as unknown;

  async function objectsOf(source: Source): Promise<ShoppableObject[]> {
    const objects: ShoppableObject[] = [];
    let complete = false;
    for await (const { response } of client.annotate(source, { catalog })) {
      if (response.case === "object") objects.push(response.value);
      complete ||= response.case === "summary";
    }
    assert.ok(complete);
    return objects;
  }

  test("an uploaded film gives what Python reads", async () => {
    assert.deepEqual(essence(await objectsOf({ file: tell("FILM") })), expected());
  });

  test("a film named by its URI gives the same, also at once", async () => {
    assert.deepEqual(essence(await objectsOf({ uri: tell("FILM_URI") })), expected());
    const source = { source: { case: "uri" as const, value: tell("FILM_URI") } };
    const answer = await client.call(OrchestratorService.method.annotateVideo, { source, options: { catalog } });
    assert.deepEqual(essence(answer.objects), expected());
  });

  test("a bad request names all its fields", async () => {
    const wrong = { longestSide: 1, matchConfidence: 7, startTime: { seconds: -1n } };
    await assert.rejects(
      async () => {
        for await (const _ of client.annotate({ uri: tell("FILM_URI") }, wrong));
      },
      (error: unknown) => {
        assert.ok(error instanceof ShoppableError);
        assert.equal(error.code, status.INVALID_ARGUMENT);
        assert.equal(error.reason, "INVALID_REQUEST");
        const fields = error.violations.map(({ field }) => field.split(".").at(-1)).sort();
        assert.deepEqual(fields, ["longest_side", "match_confidence", "start_time"]);
        return true;
      },
    );
  });

  test("cancelling and a deadline end the work", async () => {
    const stop = new AbortController();
    await assert.rejects(async () => {
      for await (const _ of client.annotate({ file: tell("FILM") }, {}, { signal: stop.signal })) stop.abort();
    }, { name: "AbortError" });
    await assert.rejects(
      async () => {
        for await (const _ of client.annotate({ file: tell("FILM") }, {}, { timeoutMs: 300 }));
      },
      { code: status.DEADLINE_EXCEEDED },
    );
  });

  test("products are listed, and a missing one is named", async () => {
    const catalogs = new ShoppableClient(tell("MATCHER"));
    const products = [];
    for await (const product of catalogs.listProducts(catalog)) products.push(product);
    assert.equal(products.length, 33);
    const name = `${catalog}/products/no-such`;
    await assert.rejects(catalogs.call(ProductCatalogService.method.getProduct, { name }), {
      code: status.NOT_FOUND,
      resourceName: name,
    });
    catalogs.close();
  });

  test("TLS is spoken to a server of trust, and to no other", { skip: !tell("TLS_DECODER") && "no openssl" }, async () => {
    const source = { source: { case: "uri" as const, value: tell("FILM_URI") } };
    const trusting = new ShoppableClient(tell("TLS_DECODER"), { tls: { roots: readFileSync(tell("TLS_ROOTS")) } });
    const answer = await trusting.call(FrameDecoderService.method.probeVideo, { source });
    assert.equal(answer.video?.codec, "h264");
    const other = new ShoppableClient(tell("TLS_DECODER"), { tls: {} });
    await assert.rejects(other.call(FrameDecoderService.method.probeVideo, { source }), { code: status.UNAVAILABLE });
    trusting.close();
    other.close();
  });

  test("the example runs", async () => {
    const example = fileURLToPath(new URL("../examples/annotate.js", import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, [
      example,
      tell("ORCHESTRATOR"),
      tell("FILM"),
      catalog,
    ]);
    assert.ok(stdout.trim().split("\n").length >= 10, stdout);
  });
});
