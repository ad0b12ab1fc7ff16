// Video sources: a file or bytes become an upload, a URI goes as it is.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";

import { create } from "@bufbuild/protobuf";

import { type VideoSource, VideoSourceSchema } from "./gen/shoppable/v1/common_pb.js";

const chunkBytes = 256 * 1024;

/** Where a video comes from: a file of this machine, a URI that the decoder can read, or bytes that come over time. */
export type Source = { file: string } | { uri: string } | { bytes: AsyncIterable<Uint8Array> };

/** Yields the first message of a stream, made of the source's description, and then the chunks, if any. */
export async function* requests<R>(
  source: Source,
  first: (described: VideoSource) => R,
  chunk: (bytes: Uint8Array) => R,
): AsyncGenerator<R, void, undefined> {
  if ("uri" in source) {
    yield first(create(VideoSourceSchema, { source: { case: "uri", value: source.uri } }));
    return;
  }
  const size = "file" in source ? { totalBytes: BigInt((await stat(source.file)).size) } : {};
  yield first(create(VideoSourceSchema, { source: { case: "upload", value: size } }));
  const bytes = "file" in source ? createReadStream(source.file, { highWaterMark: chunkBytes }) : source.bytes;
  for await (const part of bytes) yield chunk(part as Uint8Array);
}
