package dev.shoppable.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.ResourceInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** A call failed. Branch on {@link #code} and {@link #reason}; show the message to people. */
public final class ShoppableException extends RuntimeException {
  private static final long serialVersionUID = 1;

  private final Status.Code code;
  private final transient com.google.rpc.Status status;
  private String reason = "";
  private String resourceType = "";
  private String resourceName = "";
  private Duration retryAfter;
  private transient List<FieldViolation> violations = List.of();
  private transient Map<String, String> metadata = Map.of();

  private ShoppableException(com.google.rpc.Status status, Throwable cause) {
    super(Status.fromCodeValue(status.getCode()).getCode() + ": " + status.getMessage(), cause);
    this.code = Status.fromCodeValue(status.getCode()).getCode();
    this.status = status;
    for (Any detail : status.getDetailsList()) {
      try {
        read(detail);
      } catch (InvalidProtocolBufferException ignored) {
        // A detail that is not what it says it is tells nothing; the others do.
      }
    }
  }

  private void read(Any detail) throws InvalidProtocolBufferException {
    if (detail.is(ErrorInfo.class)) {
      ErrorInfo info = detail.unpack(ErrorInfo.class);
      reason = info.getReason();
      metadata = info.getMetadataMap();
    } else if (detail.is(BadRequest.class)) {
      violations =
          detail.unpack(BadRequest.class).getFieldViolationsList().stream()
              .map(one -> new FieldViolation(one.getField(), one.getDescription()))
              .toList();
    } else if (detail.is(ResourceInfo.class)) {
      ResourceInfo resource = detail.unpack(ResourceInfo.class);
      resourceType = resource.getResourceType();
      resourceName = resource.getResourceName();
    } else if (detail.is(RetryInfo.class)) {
      com.google.protobuf.Duration delay = detail.unpack(RetryInfo.class).getRetryDelay();
      retryAfter = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
    }
  }

  /** Reads gRPC's own exception, as the generated stubs throw it. */
  public static ShoppableException from(StatusRuntimeException error) {
    return new ShoppableException(StatusProto.fromThrowable(error), error);
  }

  /** Reads a google.rpc.Status, as partial failures carry it. */
  public static ShoppableException from(com.google.rpc.Status status) {
    return new ShoppableException(status, null);
  }

  /** What kind of failure it is. */
  public Status.Code code() {
    return code;
  }

  /** Stable, such as "NOT_A_VIDEO"; empty if the error did not come from a server of the suite. */
  public String reason() {
    return reason;
  }

  /** All that is wrong with the request. */
  public List<FieldViolation> violations() {
    return violations;
  }

  /** What kind of thing is missing or in the way; empty if the error is about none. */
  public String resourceType() {
    return resourceType;
  }

  /** Which one. */
  public String resourceName() {
    return resourceName;
  }

  /** How long to wait before trying again, if the server said so. */
  public Optional<Duration> retryAfter() {
    return Optional.ofNullable(retryAfter);
  }

  /** Facts that go with the reason. */
  public Map<String, String> metadata() {
    return metadata;
  }

  /** The status as it came, with all details. */
  public com.google.rpc.Status status() {
    return status;
  }
}
