package dev.shoppable.client;

import com.google.protobuf.ByteString;
import dev.shoppable.v1.AnnotateConfig;
import dev.shoppable.v1.AnnotateOptions;
import dev.shoppable.v1.CalibrateCatalogRequest;
import dev.shoppable.v1.CalibrateCatalogResponse;
import dev.shoppable.v1.CalibrationConfig;
import dev.shoppable.v1.DecodeFramesConfig;
import dev.shoppable.v1.DecodeFramesRequest;
import dev.shoppable.v1.DecodeFramesResponse;
import dev.shoppable.v1.DetectionFrame;
import dev.shoppable.v1.DetectionOptions;
import dev.shoppable.v1.FrameDecoderServiceGrpc;
import dev.shoppable.v1.LabelledThing;
import dev.shoppable.v1.ObjectDetectorServiceGrpc;
import dev.shoppable.v1.OrchestratorServiceGrpc;
import dev.shoppable.v1.ProductCatalogServiceGrpc;
import dev.shoppable.v1.ProductUpsert;
import dev.shoppable.v1.StreamAnnotateVideoRequest;
import dev.shoppable.v1.StreamAnnotateVideoResponse;
import dev.shoppable.v1.StreamCommit;
import dev.shoppable.v1.StreamDetectObjectsRequest;
import dev.shoppable.v1.StreamDetectObjectsResponse;
import dev.shoppable.v1.UpsertProductsConfig;
import dev.shoppable.v1.UpsertProductsRequest;
import dev.shoppable.v1.UpsertProductsResponse;
import dev.shoppable.v1.VideoSource;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.Iterator;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.function.Supplier;

/**
 * Calls of the services that stream, and errors in words. Unary calls go through the generated stubs, with {@link
 * #translated} around them.
 */
public final class ShoppableClient {
  private static final int CHUNK_BYTES = 256 << 10;

  private final Channel channel;
  private final Duration timeout;

  /** A client over a channel, such as one of {@link Channels}. The channel stays its owner's to close. */
  public ShoppableClient(Channel channel) {
    this(channel, null);
  }

  private ShoppableClient(Channel channel, Duration timeout) {
    this.channel = channel;
    this.timeout = timeout;
  }

  /** A client whose calls may take so long each; without it, they may take the method's own most. */
  public ShoppableClient withTimeout(Duration timeout) {
    return new ShoppableClient(channel, timeout);
  }

  /**
   * Runs a call of a generated stub.
   *
   * @throws ShoppableException the call failed
   */
  public static <T> T translated(Supplier<T> call) {
    try {
      return call.get();
    } catch (StatusRuntimeException error) {
      throw ShoppableException.from(error);
    }
  }

  /**
   * Finds the things in a video. Gives the video's info, progress, each object as soon as it is final, and a summary at
   * the end.
   */
  public Answers<StreamAnnotateVideoResponse> annotate(Source source, AnnotateOptions wanted) {
    return Answers.of(
        channel,
        OrchestratorServiceGrpc.getStreamAnnotateVideoMethod(),
        options(),
        upload(
            source,
            described ->
                StreamAnnotateVideoRequest.newBuilder()
                    .setConfig(AnnotateConfig.newBuilder().setSource(described).setOptions(wanted))
                    .build(),
            chunk -> StreamAnnotateVideoRequest.newBuilder().setChunk(chunk).build()));
  }

  /** Gives a video's info, its sampled frames and a summary. The source takes the place of the config's own. */
  public Answers<DecodeFramesResponse> decode(Source source, DecodeFramesConfig config) {
    return Answers.of(
        channel,
        FrameDecoderServiceGrpc.getDecodeFramesMethod(),
        options(),
        upload(
            source,
            described -> DecodeFramesRequest.newBuilder().setConfig(config.toBuilder().setSource(described)).build(),
            chunk -> DecodeFramesRequest.newBuilder().setChunk(chunk).build()));
  }

  /** Finds the objects of frames as they come. */
  public Answers<StreamDetectObjectsResponse> detect(Iterator<DetectionFrame> frames, DetectionOptions wanted) {
    return Answers.of(
        channel,
        ObjectDetectorServiceGrpc.getStreamDetectObjectsMethod(),
        options(),
        headed(
            StreamDetectObjectsRequest.newBuilder().setConfig(wanted).build(),
            frames,
            frame -> StreamDetectObjectsRequest.newBuilder().setFrame(frame).build()));
  }

  /** Adds and replaces products as they come. Gives a result for each, and a summary at the end. */
  public Answers<UpsertProductsResponse> upsert(UpsertProductsConfig config, Iterator<ProductUpsert> upserts) {
    return Answers.of(
        channel,
        ProductCatalogServiceGrpc.getUpsertProductsMethod(),
        options(),
        committed(
            UpsertProductsRequest.newBuilder().setConfig(config).build(),
            upserts,
            upsert -> UpsertProductsRequest.newBuilder().setUpsert(upsert).build(),
            commit -> UpsertProductsRequest.newBuilder().setCommit(commit).build()));
  }

  /** Learns from labelled pictures. Gives the row of each thing that was read, and a summary at the end. */
  public Answers<CalibrateCatalogResponse> calibrate(CalibrationConfig config, Iterator<LabelledThing> things) {
    return Answers.of(
        channel,
        ProductCatalogServiceGrpc.getCalibrateCatalogMethod(),
        options(),
        committed(
            CalibrateCatalogRequest.newBuilder().setConfig(config).build(),
            things,
            thing -> CalibrateCatalogRequest.newBuilder().setThing(thing).build(),
            commit -> CalibrateCatalogRequest.newBuilder().setCommit(commit).build()));
  }

  private CallOptions options() {
    return timeout == null
        ? CallOptions.DEFAULT
        : CallOptions.DEFAULT.withDeadlineAfter(timeout.toNanos(), TimeUnit.NANOSECONDS);
  }

  private static <Q> Answers.Requests<Q> upload(
      Source source, Function<VideoSource, Q> first, Function<ByteString, Q> wrap) {
    return sink -> {
      try {
        Source.Bytes bytes = source.open();
        try (InputStream stream = bytes.stream()) {
          boolean wanted = sink.send(first.apply(source.describe(bytes)));
          while (wanted) {
            byte[] chunk = stream.readNBytes(CHUNK_BYTES);
            if (chunk.length == 0) {
              return;
            }
            wanted = sink.send(wrap.apply(ByteString.copyFrom(chunk)));
          }
        }
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    };
  }

  private static <Q, T> Answers.Requests<Q> headed(Q config, Iterator<T> items, Function<T, Q> wrap) {
    return sink -> {
      boolean wanted = sink.send(config);
      while (wanted && items.hasNext()) {
        wanted = sink.send(wrap.apply(items.next()));
      }
    };
  }

  /** The same, and then that these were all: without it, a stream that was given up would look like a whole one. */
  private static <Q, T> Answers.Requests<Q> committed(
      Q config, Iterator<T> items, Function<T, Q> wrap, Function<StreamCommit, Q> end) {
    return sink -> {
      boolean wanted = sink.send(config);
      long count = 0;
      while (wanted && items.hasNext()) {
        wanted = sink.send(wrap.apply(items.next()));
        count++;
      }
      if (wanted) {
        sink.send(end.apply(StreamCommit.newBuilder().setCount(count).build()));
      }
    };
  }
}
