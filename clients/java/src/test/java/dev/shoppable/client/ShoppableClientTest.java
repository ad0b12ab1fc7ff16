package dev.shoppable.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.shoppable.v1.DecodeFramesConfig;
import dev.shoppable.v1.FrameDecoderServiceGrpc;
import dev.shoppable.v1.ProbeVideoRequest;
import dev.shoppable.v1.ProbeVideoResponse;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(60)
class ShoppableClientTest {
  private static final DecodeFramesConfig CONFIG = DecodeFramesConfig.getDefaultInstance();
  private final Told told = new Told();
  private ManagedChannel channel;
  private ShoppableClient client;
  @TempDir private Path folder;

  @BeforeEach
  void connect() throws IOException {
    channel = Channels.to(told.start()).apiKey("k-123").token("t-456").open();
    client = new ShoppableClient(channel);
  }

  @AfterEach
  void end() {
    channel.shutdownNow();
    told.stop();
  }

  private ProbeVideoResponse probe() {
    ProbeVideoRequest request = ProbeVideoRequest.getDefaultInstance();
    return ShoppableClient.translated(() -> FrameDecoderServiceGrpc.newBlockingStub(channel).probeVideo(request));
  }

  private static <T> List<T> drain(Iterator<T> answers) {
    List<T> all = new ArrayList<>();
    answers.forEachRemaining(all::add);
    return all;
  }

  @Test
  void callsAreRetriedAsTheServiceConfigSays() {
    told.failures = 2;
    assertEquals("h264", probe().getVideo().getCodec());
    assertEquals(3, told.attempts.get());
    told.failures = 99;
    ShoppableException error = assertThrows(ShoppableException.class, this::probe);
    assertEquals(Status.Code.UNAVAILABLE, error.code());
    assertEquals(Duration.ofMillis(1500), error.retryAfter().orElseThrow());
  }

  @Test
  void aFileIsUploadedWhole() throws IOException {
    Path film = Files.write(folder.resolve("film.mp4"), new byte[1_000_001]);
    assertEquals(2, drain(client.decode(Source.file(film), CONFIG)).size());
    assertEquals(1_000_001, told.bytes.get());
  }

  @Test
  void aRefusalInTheMiddleOfAnUploadArrivesWhole() {
    told.refuse = true;
    Source film = Source.stream(new ByteArrayInputStream(new byte[64 << 20]));
    ShoppableException error =
        assertThrows(ShoppableException.class, () -> drain(client.decode(film, CONFIG)));
    assertEquals(Status.Code.INVALID_ARGUMENT, error.code());
    assertEquals("NOT_LIKED", error.reason());
    assertEquals(Map.of("a", "b"), error.metadata());
    assertEquals(List.of(new FieldViolation("config.source", "must be liked")), error.violations());
  }

  @Test
  void anErrorOfTheUploadItselfReachesWhoReads() {
    InputStream torn =
        new InputStream() {
          @Override
          public int read() throws IOException {
            throw new IOException("the disk is gone");
          }
        };
    Source film = Source.stream(torn);
    Exception error = assertThrows(UncheckedIOException.class, () -> drain(client.decode(film, CONFIG)));
    assertEquals("the disk is gone", error.getCause().getMessage());
    Source missing = Source.file(folder.resolve("none.mp4"));
    error = assertThrows(UncheckedIOException.class, () -> drain(client.decode(missing, CONFIG)));
    assertEquals(NoSuchFileException.class, error.getCause().getClass());
  }

  @Test
  void closingCancelsTheWorkFromAnyThread() throws InterruptedException {
    told.hang = true;
    try (var answers = client.decode(Source.uri("file:///film.mp4"), CONFIG)) {
      answers.next();
      CompletableFuture.delayedExecutor(100, TimeUnit.MILLISECONDS).execute(answers::close);
      ShoppableException error = assertThrows(ShoppableException.class, answers::hasNext);
      assertEquals(Status.Code.CANCELLED, error.code());
    }
    assertTrue(told.cancelled.await(10, TimeUnit.SECONDS));
  }

  @Test
  void aDeadlineEndsAStream() {
    told.hang = true;
    ShoppableClient hurried = client.withTimeout(Duration.ofMillis(300));
    ShoppableException error =
        assertThrows(ShoppableException.class, () -> drain(hurried.decode(Source.uri("a:b"), CONFIG)));
    assertEquals(Status.Code.DEADLINE_EXCEEDED, error.code());
  }

  @Test
  void keyAndTokenGoWithEveryCall() {
    probe();
    assertEquals("k-123", told.metadata.get(Metadata.Key.of("x-api-key", Metadata.ASCII_STRING_MARSHALLER)));
    told.metadata = new Metadata();
    drain(client.decode(Source.uri("a:b"), CONFIG));
    assertEquals(
        "Bearer t-456", told.metadata.get(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER)));
  }
}
