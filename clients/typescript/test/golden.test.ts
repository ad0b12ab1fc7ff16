import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { create, createRegistry, equals, fromBinary, fromJsonString, toBinary } from "@bufbuild/protobuf";

import { file_google_rpc_error_details } from "../src/gen/google/rpc/error_details_pb.js";
import * as shoppable from "../src/index.js";

const golden = new URL("../../../../tests/golden/", import.meta.url);
const later = Buffer.from([0xf8, 0xff, 0x0f, 0x2a]); // field 32767, a varint: 42
const registry = createRegistry(
  file_google_rpc_error_details,
  shoppable.file_shoppable_v1_frame_decoder,
  shoppable.file_shoppable_v1_object_detector,
  shoppable.file_shoppable_v1_orchestrator,
  shoppable.file_shoppable_v1_product_catalog,
  shoppable.file_shoppable_v1_product_matcher,
  shoppable.file_shoppable_v1_server_info,
);

test("golden messages decode and later fields survive", { skip: !existsSync(golden) && "only in the checkout" }, () => {
  const names = readdirSync(golden).filter((name) => name.endsWith(".binpb"));
  assert.ok(names.length > 0);
  for (const name of names) {
    // A union's alternative follows the message's name.
    const schema = registry.getMessage(name.split(".").slice(0, 3).join("."));
    assert.ok(schema, name);
    const binary = readFileSync(new URL(name, golden));
    const message = fromBinary(schema, binary);
    const text = readFileSync(new URL(name.replace(/binpb$/, "json"), golden), "utf8");
    assert.ok(equals(schema, message, fromJsonString(schema, text, { registry })), name);
    const again = toBinary(schema, fromBinary(schema, Buffer.concat([binary, later])));
    assert.ok(Buffer.from(again).includes(later), name);
  }
});

test("a later enum value survives", () => {
  const sent = toBinary(shoppable.ImageSchema, create(shoppable.ImageSchema, { format: 99 as shoppable.ImageFormat }));
  assert.equal(fromBinary(shoppable.ImageSchema, sent).format, 99);
});
