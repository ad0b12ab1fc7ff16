package dev.shoppable.client;

import com.google.protobuf.Any;
import com.google.protobuf.Duration;
import com.google.rpc.BadRequest;
import com.google.rpc.Code;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import dev.shoppable.v1.DecodeFramesRequest;
import dev.shoppable.v1.DecodeFramesResponse;
import dev.shoppable.v1.DecodeSummary;
import dev.shoppable.v1.FrameDecoderServiceGrpc;
import dev.shoppable.v1.ProbeVideoRequest;
import dev.shoppable.v1.ProbeVideoResponse;
import dev.shoppable.v1.VideoInfo;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;

/** A decoder that does as a test says, on a real server. */
final class Told extends FrameDecoderServiceGrpc.FrameDecoderServiceImplBase implements ServerInterceptor {
  final AtomicInteger attempts = new AtomicInteger();
  final AtomicLong bytes = new AtomicLong();
  final CountDownLatch cancelled = new CountDownLatch(1);
  volatile Metadata metadata = new Metadata();
  volatile int failures;
  volatile boolean refuse;
  volatile boolean hang;
  private Server server;

  String start() throws IOException {
    server =
        Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create())
            .addService(this)
            .intercept(this)
            .build()
            .start();
    return "localhost:" + server.getPort();
  }

  void stop() {
    server.shutdownNow();
  }

  @Override
  public <Q, A> ServerCall.Listener<Q> interceptCall(
      ServerCall<Q, A> call, Metadata headers, ServerCallHandler<Q, A> next) {
    metadata = headers;
    return next.startCall(call, headers);
  }

  @Override
  public void probeVideo(ProbeVideoRequest request, StreamObserver<ProbeVideoResponse> answers) {
    if (attempts.incrementAndGet() <= failures) {
      Duration delay = Duration.newBuilder().setSeconds(1).setNanos(500_000_000).build();
      answers.onError(failed(Code.UNAVAILABLE, RetryInfo.newBuilder().setRetryDelay(delay).build()));
      return;
    }
    answers.onNext(ProbeVideoResponse.newBuilder().setVideo(VideoInfo.newBuilder().setCodec("h264")).build());
    answers.onCompleted();
  }

  @Override
  public StreamObserver<DecodeFramesRequest> decodeFrames(StreamObserver<DecodeFramesResponse> answers) {
    ((ServerCallStreamObserver<DecodeFramesResponse>) answers).setOnCancelHandler(cancelled::countDown);
    answers.onNext(DecodeFramesResponse.newBuilder().setVideo(VideoInfo.getDefaultInstance()).build());
    return new StreamObserver<>() {
      private int chunks;

      @Override
      public void onNext(DecodeFramesRequest request) {
        bytes.addAndGet(request.getChunk().size());
        if (refuse && ++chunks == 4) {
          BadRequest.FieldViolation violation =
              BadRequest.FieldViolation.newBuilder().setField("config.source").setDescription("must be liked").build();
          answers.onError(
              failed(
                  Code.INVALID_ARGUMENT,
                  ErrorInfo.newBuilder().setReason("NOT_LIKED").putMetadata("a", "b").build(),
                  BadRequest.newBuilder().addFieldViolations(violation).build()));
        }
      }

      @Override
      public void onError(Throwable error) {}

      @Override
      public void onCompleted() {
        if (!hang) {
          answers.onNext(DecodeFramesResponse.newBuilder().setSummary(DecodeSummary.getDefaultInstance()).build());
          answers.onCompleted();
        }
      }
    };
  }

  private static RuntimeException failed(Code code, com.google.protobuf.Message... details) {
    Status.Builder status = Status.newBuilder().setCode(code.getNumber()).setMessage("told so");
    for (com.google.protobuf.Message detail : details) {
      status.addDetails(Any.pack(detail));
    }
    return StatusProto.toStatusRuntimeException(status.build());
  }
}
