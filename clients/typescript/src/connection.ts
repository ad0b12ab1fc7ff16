// One connection: any method of the contract can be called over it, typed by its descriptor.

import {
  create,
  type DescMessage,
  type DescMethodBiDiStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import {
  type CallOptions as GrpcCallOptions,
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  credentials,
  Metadata,
} from "@grpc/grpc-js";
import { once } from "node:events";

import { ShoppableError } from "./errors.js";
import { serviceConfig } from "./gen/service_config.js";

const maxMessageBytes = 64 * 2 ** 20;

/** How a client connects. */
export interface ConnectionOptions {
  /**
   * PEM bytes: the roots to trust (default the system's), and a client's own pair for mutual TLS. Without `tls` the
   * connection is plain text, which is for loopback and for networks that encrypt by themselves.
   */
  tls?: { roots?: Buffer; certificate?: Buffer; key?: Buffer };
  /** Sent with each call as `x-api-key`. */
  apiKey?: string;
  /** A JWT, sent with each call as `authorization: Bearer`. */
  token?: string;
  /** Options of gRPC itself, stronger than those of this package. */
  channelOptions?: ChannelOptions;
}

/** How long a call may take, and what ends it. */
export interface CallOptions {
  /** From now on; default the method's own most. */
  timeoutMs?: number;
  /** Cancels the call, and the work for it. */
  signal?: AbortSignal;
}

/** Calls the services behind one address. */
export class Connection {
  readonly #client: Client;
  readonly #identity: Record<string, string> = {};

  /** Connects with the first call to `host:port` or any other gRPC name. */
  constructor(target: string, options: ConnectionOptions = {}) {
    const { tls, apiKey, token } = options;
    if (apiKey) this.#identity["x-api-key"] = apiKey;
    if (token) this.#identity["authorization"] = `Bearer ${token}`;
    const security = tls
      ? credentials.createSsl(tls.roots ?? null, tls.key ?? null, tls.certificate ?? null)
      : credentials.createInsecure();
    this.#client = new Client(target, security, {
      "grpc.service_config": JSON.stringify(serviceConfig),
      "grpc.max_send_message_length": maxMessageBytes,
      "grpc.max_receive_message_length": maxMessageBytes,
      // The default would silently switch retries off for a call that carries a picture.
      "grpc.per_rpc_retry_buffer_size": maxMessageBytes,
      "grpc.initial_reconnect_backoff_ms": 200,
      "grpc.max_reconnect_backoff_ms": 2000,
      // Finds a peer that is gone without a word; servers accept a ping a minute while calls run.
      "grpc.keepalive_time_ms": 60_000,
      "grpc.keepalive_timeout_ms": 10_000,
      ...options.channelOptions,
    });
  }

  /**
   * Calls a unary method, such as `OrchestratorService.method.annotateVideo`.
   *
   * @throws ShoppableError
   */
  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    return new Promise((resolve, reject) => {
      const call = this.#client.makeUnaryRequest<MessageShape<I>, MessageShape<O>>(
        pathOf(method),
        (message) => Buffer.from(toBinary(method.input, message)),
        (bytes) => fromBinary(method.output, bytes),
        create(method.input, request),
        this.#metadata(),
        grpcOptions(options),
        (error, answer) => {
          release();
          if (error) reject(ended(error, options));
          else resolve(answer as MessageShape<O>);
        },
      );
      const release = onAbort(options.signal, () => call.cancel());
    });
  }

  /**
   * Calls a bidirectional method: sends the requests, as fast as they are taken, while it yields the answers. Leaving
   * the loop cancels the call. An error of the requests themselves is thrown as it is.
   *
   * @throws ShoppableError
   */
  async *stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O>,
    requests: AsyncIterable<MessageInitShape<I>> | Iterable<MessageInitShape<I>>,
    options: CallOptions = {},
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    const call = this.#client.makeBidiStreamRequest<MessageShape<I>, MessageShape<O>>(
      pathOf(method),
      (message) => Buffer.from(toBinary(method.input, message)),
      (bytes) => fromBinary(method.output, bytes),
      this.#metadata(),
      grpcOptions(options),
    );
    const over = new AbortController();
    let torn: { error: unknown } | undefined;
    call.on("error", () => over.abort());
    call.on("status", () => over.abort());
    const release = onAbort(options.signal, () => call.cancel());

    const send = async (): Promise<void> => {
      try {
        for await (const request of requests) {
          if (over.signal.aborted) return;
          if (!call.write(create(method.input, request))) await once(call, "drain", { signal: over.signal });
        }
        call.end();
      } catch (error) {
        if (over.signal.aborted) return; // the call has ended; who reads learns why
        torn = { error };
        call.cancel();
      }
    };
    void send();

    try {
      yield* answersOf(call);
    } catch (error) {
      throw torn ? torn.error : ended(error, options);
    } finally {
      release();
      over.abort();
      call.cancel();
    }
  }

  /** Ends the connection; calls in work go on to their end. */
  close(): void {
    this.#client.close();
  }

  #metadata(): Metadata {
    const metadata = new Metadata();
    for (const [key, value] of Object.entries(this.#identity)) metadata.set(key, value);
    return metadata;
  }
}

/**
 * Yields what a call reads, and throws its error behind that. The iterator that Node gives every stream does not end
 * while the other side of a duplex stream is open.
 */
async function* answersOf<A>(call: ClientDuplexStream<never, A>): AsyncGenerator<A, void, undefined> {
  let failure: { error: Error } | undefined;
  let over = false;
  let wake = (): void => undefined;
  call.on("readable", () => wake());
  call.on("end", () => {
    over = true;
    wake();
  });
  call.on("error", (error) => {
    failure = { error };
    wake();
  });
  for (;;) {
    const news = new Promise<void>((resolve) => (wake = resolve));
    const answer = call.read() as A | null;
    if (answer !== null) yield answer;
    else if (failure) throw failure.error;
    else if (over) return;
    else await news;
  }
}

function pathOf(method: { name: string; parent: { typeName: string } }): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function grpcOptions({ timeoutMs }: CallOptions): GrpcCallOptions {
  return timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
}

function onAbort(signal: AbortSignal | undefined, cancel: () => void): () => void {
  if (signal?.aborted) cancel();
  signal?.addEventListener("abort", cancel);
  return () => signal?.removeEventListener("abort", cancel);
}

/** The caller's own reason to abort comes first, as everywhere in Node; it has the call's error as its cause. */
function ended(error: unknown, { signal }: CallOptions): unknown {
  return signal?.aborted ? signal.reason : ShoppableError.from(error);
}
