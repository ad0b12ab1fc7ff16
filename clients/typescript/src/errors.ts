// The one error of the client, with all that a server said about it in plain properties.

import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { type ServiceError, status } from "@grpc/grpc-js";

import {
  BadRequestSchema,
  ErrorInfoSchema,
  ResourceInfoSchema,
  RetryInfoSchema,
} from "./gen/google/rpc/error_details_pb.js";
import { type Status, StatusSchema } from "./gen/google/rpc/status_pb.js";

/** One thing that is wrong with a request. */
export interface FieldViolation {
  field: string;
  description: string;
}

/** A call failed. Branch on `code` and `reason`; show `message` to people. */
export class ShoppableError extends Error {
  override readonly name = "ShoppableError";
  readonly code: status;
  /** Stable, such as "NOT_A_VIDEO"; empty if the error did not come from a server of the suite. */
  readonly reason: string = "";
  readonly violations: readonly FieldViolation[] = [];
  readonly resourceType: string = "";
  readonly resourceName: string = "";
  /** How long to wait before trying again; undefined if the server did not say. */
  readonly retryAfterMs: number | undefined;
  readonly metadata: Readonly<Record<string, string>> = {};
  /** The status as it came, with all details; undefined if there were none. */
  readonly status: Status | undefined;

  constructor(code: status, message: string, details?: Status, options?: ErrorOptions) {
    super(`${status[code] ?? code}: ${message}`, options);
    this.code = code;
    this.status = details;
    for (const detail of details?.details ?? []) {
      const info = anyUnpack(detail, ErrorInfoSchema);
      const request = anyUnpack(detail, BadRequestSchema);
      const resource = anyUnpack(detail, ResourceInfoSchema);
      const delay = anyUnpack(detail, RetryInfoSchema)?.retryDelay;
      if (info) {
        this.reason = info.reason;
        this.metadata = info.metadata;
      } else if (request) {
        this.violations = request.fieldViolations.map(({ field, description }) => ({ field, description }));
      } else if (resource) {
        this.resourceType = resource.resourceType;
        this.resourceName = resource.resourceName;
      } else if (delay) {
        this.retryAfterMs = Number(delay.seconds) * 1000 + delay.nanos / 1e6;
      }
    }
  }

  /** Reads a google.rpc.Status, as partial failures carry it. */
  static fromStatus(details: Status): ShoppableError {
    return new ShoppableError(details.code, details.message, details);
  }

  /** Turns gRPC's error into ours; any other comes back as it is. */
  static from(error: unknown): unknown {
    if (error instanceof ShoppableError || !isServiceError(error)) return error;
    const [bytes] = error.metadata?.get("grpc-status-details-bin") ?? [];
    const details = bytes instanceof Uint8Array ? readStatus(bytes) : undefined;
    return new ShoppableError(error.code, details?.message || error.details, details, { cause: error });
  }
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "details" in error && typeof error.code === "number";
}

function readStatus(bytes: Uint8Array): Status | undefined {
  try {
    return fromBinary(StatusSchema, bytes);
  } catch {
    return undefined; // not ours
  }
}
