// A decoder that does as a test says, on a real server.

import { create, type MessageInitShape, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Any, anyPack } from "@bufbuild/protobuf/wkt";
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type sendUnaryData,
  status,
} from "@grpc/grpc-js";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../src/gen/google/rpc/status_pb.js";
import {
  type DecodeFramesRequest,
  DecodeFramesRequestSchema,
  DecodeFramesResponseSchema,
  ProbeVideoResponseSchema,
} from "../src/index.js";

type Answer = MessageInitShape<typeof DecodeFramesResponseSchema>;

export class Told {
  failures = 0;
  attempts = 0;
  bytes = 0;
  refuse = false;
  hang = false;
  cancelled = false;
  metadata = new Metadata();
  readonly #server = new Server();

  async start(): Promise<string> {
    this.#server.addService(
      {
        probe: unary("/shoppable.v1.FrameDecoderService/ProbeVideo"),
        decode: duplex("/shoppable.v1.FrameDecoderService/DecodeFrames"),
      },
      {
        probe: (call: ServerUnaryCall<Buffer, Buffer>, answer: sendUnaryData<Buffer>) => this.#probe(call, answer),
        decode: (call: ServerDuplexStream<DecodeFramesRequest, Answer>) => this.#decode(call),
      },
    );
    return new Promise((resolve, reject) =>
      this.#server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) =>
        error ? reject(error) : resolve(`127.0.0.1:${port}`),
      ),
    );
  }

  stop(): void {
    this.#server.forceShutdown();
  }

  #probe(call: ServerUnaryCall<Buffer, Buffer>, answer: sendUnaryData<Buffer>): void {
    this.metadata = call.metadata;
    if (++this.attempts <= this.failures) {
      const delay = create(RetryInfoSchema, { retryDelay: { seconds: 1n, nanos: 500_000_000 } });
      answer(failed(status.UNAVAILABLE, "told so", anyPack(RetryInfoSchema, delay)));
    } else {
      const message = create(ProbeVideoResponseSchema, { video: { codec: "h264" } });
      answer(null, Buffer.from(toBinary(ProbeVideoResponseSchema, message)));
    }
  }

  #decode(call: ServerDuplexStream<DecodeFramesRequest, Answer>): void {
    this.metadata = call.metadata;
    call.on("cancelled", () => (this.cancelled = true));
    call.write({ response: { case: "video", value: {} } });
    let chunks = 0;
    call.on("data", ({ request }: DecodeFramesRequest) => {
      if (request.case !== "chunk") return;
      this.bytes += request.value.length;
      if (this.refuse && ++chunks === 3) {
        const info = create(ErrorInfoSchema, { reason: "NOT_LIKED", domain: "shoppable", metadata: { a: "b" } });
        const fieldViolations = [{ field: "config.source", description: "must be liked" }];
        const request = create(BadRequestSchema, { fieldViolations });
        const details = [anyPack(ErrorInfoSchema, info), anyPack(BadRequestSchema, request)];
        call.emit("error", failed(status.INVALID_ARGUMENT, "not liked", ...details));
      }
    });
    call.on("end", () => {
      if (this.hang) return;
      call.write({ response: { case: "summary", value: {} } });
      call.end();
    });
  }
}

function failed(code: status, details: string, ...packed: Any[]) {
  const metadata = new Metadata();
  const message = create(StatusSchema, { code, message: details, details: packed });
  metadata.set("grpc-status-details-bin", Buffer.from(toBinary(StatusSchema, message)));
  return { name: "failed", message: details, code, details, metadata };
}

function unary(path: string) {
  const asTheyAre = (bytes: Buffer) => bytes;
  return {
    path,
    requestStream: false,
    responseStream: false,
    requestSerialize: asTheyAre,
    requestDeserialize: asTheyAre,
    responseSerialize: asTheyAre,
    responseDeserialize: asTheyAre,
  } as const;
}

function duplex(path: string) {
  return {
    path,
    requestStream: true,
    responseStream: true,
    requestSerialize: (message: DecodeFramesRequest) => Buffer.from(toBinary(DecodeFramesRequestSchema, message)),
    requestDeserialize: (bytes: Buffer) => fromBinary(DecodeFramesRequestSchema, bytes),
    responseSerialize: (message: Answer) =>
      Buffer.from(toBinary(DecodeFramesResponseSchema, create(DecodeFramesResponseSchema, message))),
    responseDeserialize: (bytes: Buffer) => fromBinary(DecodeFramesResponseSchema, bytes),
  } as const;
}
