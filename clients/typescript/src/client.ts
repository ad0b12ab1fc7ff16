// What generated code makes hard: uploads, streams with a first message, and pages.

import { clone, create, type MessageInitShape } from "@bufbuild/protobuf";

import { Connection, type CallOptions } from "./connection.js";
import {
  DecodeFramesConfigSchema,
  type DecodeFramesRequestSchema,
  type DecodeFramesResponse,
  FrameDecoderService,
} from "./gen/shoppable/v1/frame_decoder_pb.js";
import {
  type DetectionFrameSchema,
  type DetectionOptionsSchema,
  ObjectDetectorService,
  type StreamDetectObjectsResponse,
} from "./gen/shoppable/v1/object_detector_pb.js";
import {
  type AnnotateOptionsSchema,
  OrchestratorService,
  type StreamAnnotateVideoRequestSchema,
  type StreamAnnotateVideoResponse,
} from "./gen/shoppable/v1/orchestrator_pb.js";
import {
  type CalibrateCatalogResponse,
  type CalibrationConfigSchema,
  type Catalog,
  type LabelledThingSchema,
  type Product,
  ProductCatalogService,
  type ProductFilterSchema,
  type ProductUpsertSchema,
  type UpsertProductsConfigSchema,
  type UpsertProductsResponse,
} from "./gen/shoppable/v1/product_catalog_pb.js";
import { requests, type Source } from "./sources.js";

type Many<T> = AsyncIterable<T> | Iterable<T>;
type Answers<T> = AsyncGenerator<T, void, undefined>;

/** A connection with ways to the methods that stream or have pages; for the others, see `call`. */
export class ShoppableClient extends Connection {
  /**
   * Finds the things in a video. Yields the video's info, progress, each object as soon as it is final, and a summary at
   * the end. A file is uploaded as fast as it is taken.
   */
  annotate(
    source: Source,
    options: MessageInitShape<typeof AnnotateOptionsSchema> = {},
    call?: CallOptions,
  ): Answers<StreamAnnotateVideoResponse> {
    const messages = requests<MessageInitShape<typeof StreamAnnotateVideoRequestSchema>>(
      source,
      (described) => ({ request: { case: "config", value: { source: described, options } } }),
      (value) => ({ request: { case: "chunk", value } }),
    );
    return this.stream(OrchestratorService.method.streamAnnotateVideo, messages, call);
  }

  /** Yields a video's info, its sampled frames and a summary. The source takes the place of the config's own. */
  decode(
    source: Source,
    config: MessageInitShape<typeof DecodeFramesConfigSchema> = {},
    call?: CallOptions,
  ): Answers<DecodeFramesResponse> {
    // A copy: the caller's own config stays as it is.
    const complete = clone(DecodeFramesConfigSchema, create(DecodeFramesConfigSchema, config));
    const messages = requests<MessageInitShape<typeof DecodeFramesRequestSchema>>(
      source,
      (described) => ({ request: { case: "config", value: Object.assign(complete, { source: described }) } }),
      (value) => ({ request: { case: "chunk", value } }),
    );
    return this.stream(FrameDecoderService.method.decodeFrames, messages, call);
  }

  /** Finds the objects of frames as they come. */
  detect(
    frames: Many<MessageInitShape<typeof DetectionFrameSchema>>,
    options: MessageInitShape<typeof DetectionOptionsSchema> = {},
    call?: CallOptions,
  ): Answers<StreamDetectObjectsResponse> {
    const messages = headed({ request: { case: "config" as const, value: options } }, frames, (value) => ({
      request: { case: "frame" as const, value },
    }));
    return this.stream(ObjectDetectorService.method.streamDetectObjects, messages, call);
  }

  /** Adds and replaces products as they come. Yields a result for each, and a summary at the end. */
  upsert(
    config: MessageInitShape<typeof UpsertProductsConfigSchema>,
    upserts: Many<MessageInitShape<typeof ProductUpsertSchema>>,
    call?: CallOptions,
  ): Answers<UpsertProductsResponse> {
    const messages = committed({ request: { case: "config" as const, value: config } }, upserts, (value) => ({
      request: { case: "upsert" as const, value },
    }));
    return this.stream(ProductCatalogService.method.upsertProducts, messages, call);
  }

  /** Learns from labelled pictures. Yields the row of each thing that was read, and a summary at the end. */
  calibrate(
    config: MessageInitShape<typeof CalibrationConfigSchema>,
    things: Many<MessageInitShape<typeof LabelledThingSchema>>,
    call?: CallOptions,
  ): Answers<CalibrateCatalogResponse> {
    const messages = committed({ request: { case: "config" as const, value: config } }, things, (value) => ({
      request: { case: "thing" as const, value },
    }));
    return this.stream(ProductCatalogService.method.calibrateCatalog, messages, call);
  }

  /** Yields all catalogues, page by page. */
  async *listCatalogs(call?: CallOptions): Answers<Catalog> {
    let pageToken = "";
    do {
      const page = await this.call(ProductCatalogService.method.listCatalogs, { pageToken }, call);
      yield* page.catalogs;
      pageToken = page.nextPageToken;
    } while (pageToken);
  }

  /** Yields the products of a catalogue, `catalogs/{catalog}`, page by page. */
  async *listProducts(
    parent: string,
    filter: MessageInitShape<typeof ProductFilterSchema> = {},
    call?: CallOptions,
  ): Answers<Product> {
    let pageToken = "";
    do {
      const page = await this.call(ProductCatalogService.method.listProducts, { parent, filter, pageToken }, call);
      yield* page.products;
      pageToken = page.nextPageToken;
    } while (pageToken);
  }
}

async function* headed<C, T, R>(config: C, items: Many<T>, wrap: (item: T) => R): AsyncGenerator<C | R, void, undefined> {
  yield config;
  for await (const item of items) yield wrap(item);
}

/** The same, and then that these were all: without it, a stream that was given up would look like a whole one. */
async function* committed<C, T, R>(config: C, items: Many<T>, wrap: (item: T) => R) {
  yield config;
  let count = 0n;
  for await (const item of items) {
    yield wrap(item);
    count += 1n;
  }
  yield { request: { case: "commit" as const, value: { count } } };
}
