package dev.shoppable.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonParser;
import com.google.protobuf.util.Durations;
import dev.shoppable.examples.Annotate;
import dev.shoppable.v1.AnnotateOptions;
import dev.shoppable.v1.AnnotateVideoRequest;
import dev.shoppable.v1.FrameDecoderServiceGrpc;
import dev.shoppable.v1.GetProductRequest;
import dev.shoppable.v1.OrchestratorServiceGrpc;
import dev.shoppable.v1.ProbeVideoRequest;
import dev.shoppable.v1.ProbeVideoResponse;
import dev.shoppable.v1.ProductCatalogServiceGrpc;
import dev.shoppable.v1.ShoppableObject;
import dev.shoppable.v1.StreamAnnotateVideoResponse;
import dev.shoppable.v1.VideoSource;
import io.grpc.ChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.TlsChannelCredentials;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Against the suite that `make test-clients` starts; skipped without it. */
@Timeout(240)
class SuiteTest {
  private ManagedChannel channel;
  private ShoppableClient client;
  private AnnotateOptions options;

  private static String told(String name) {
    String value = System.getenv("SHOPPABLE_TEST_" + name);
    assumeTrue(value != null, "needs a running suite: make test-clients");
    return value;
  }

  @BeforeEach
  void connect() {
    channel = Channels.to(told("ORCHESTRATOR")).open();
    client = new ShoppableClient(channel);
    options = AnnotateOptions.newBuilder().setCatalog(told("CATALOG")).build();
  }

  @AfterEach
  void close() {
    if (channel != null) {
      channel.shutdownNow();
    }
  }

  private static JsonElement essence(List<ShoppableObject> objects) {
    List<Map<String, ?>> list =
        objects.stream()
            .sorted(Comparator.comparing(ShoppableObject::getObjectId))
            .<Map<String, ?>>map(
                one ->
                    Map.of(
                        "object_id", one.getObjectId(),
                        "label", one.getLabel(),
                        "category", one.getCategory(),
                        "decision", one.getDecision().name(),
                        "products", one.getProductsList().stream().map(match -> match.getProduct().getName()).toList(),
                        "start_ms", Durations.toMillis(one.getSegments(0).getStart())))
            .toList();
    return JsonParser.parseString(new Gson().toJson(list));
  }

  private static JsonElement expected() throws Exception {
    return JsonParser.parseString(Files.readString(Path.of(told("EXPECTED"))));
  }

  private List<ShoppableObject> objectsOf(Source source) {
    List<ShoppableObject> objects = new ArrayList<>();
    boolean complete = false;
    try (Answers<StreamAnnotateVideoResponse> answers = client.annotate(source, options)) {
      while (answers.hasNext()) {
        StreamAnnotateVideoResponse answer = answers.next();
        if (answer.hasObject()) {
          objects.add(answer.getObject());
        }
        complete |= answer.hasSummary();
      }
    }
    assertTrue(complete);
    return objects;
  }

  @Test
  void anUploadedFilmGivesWhatPythonReads() throws Exception {
    assertEquals(expected(), essence(objectsOf(Source.file(Path.of(told("FILM"))))));
  }

  @Test
  void aFilmNamedByItsUriGivesTheSameAlsoAtOnce() throws Exception {
    assertEquals(expected(), essence(objectsOf(Source.uri(told("FILM_URI")))));
    AnnotateVideoRequest request =
        AnnotateVideoRequest.newBuilder()
            .setSource(VideoSource.newBuilder().setUri(told("FILM_URI")))
            .setOptions(options)
            .build();
    List<ShoppableObject> objects =
        OrchestratorServiceGrpc.newBlockingStub(channel).annotateVideo(request).getObjectsList();
    assertEquals(expected(), essence(objects));
  }

  @Test
  void aBadRequestNamesAllItsFields() {
    AnnotateOptions wrong =
        AnnotateOptions.newBuilder()
            .setLongestSide(1)
            .setMatchConfidence(7)
            .setStartTime(Durations.fromSeconds(-1))
            .build();
    ShoppableException error =
        assertThrows(
            ShoppableException.class, () -> client.annotate(Source.uri(told("FILM_URI")), wrong).forEachRemaining(x -> {}));
    assertEquals(Status.Code.INVALID_ARGUMENT, error.code());
    assertEquals("INVALID_REQUEST", error.reason());
    List<String> fields =
        error.violations().stream().map(one -> one.field().replaceFirst(".*\\.", "")).sorted().toList();
    assertEquals(List.of("longest_side", "match_confidence", "start_time"), fields);
  }

  @Test
  void cancellingAndADeadlineEndTheWork() {
    Source film = Source.file(Path.of(told("FILM")));
    Answers<StreamAnnotateVideoResponse> answers = client.annotate(film, options);
    answers.next();
    answers.close();
    ShoppableException error = assertThrows(ShoppableException.class, () -> answers.forEachRemaining(x -> {}));
    assertEquals(Status.Code.CANCELLED, error.code());
    ShoppableClient hurried = client.withTimeout(Duration.ofMillis(300));
    error =
        assertThrows(ShoppableException.class, () -> hurried.annotate(film, options).forEachRemaining(x -> {}));
    assertEquals(Status.Code.DEADLINE_EXCEEDED, error.code());
  }

  @Test
  void aMissingProductIsNamed() {
    ManagedChannel matcher = Channels.to(told("MATCHER")).open();
    String name = told("CATALOG") + "/products/no-such";
    GetProductRequest request = GetProductRequest.newBuilder().setName(name).build();
    ShoppableException error =
        assertThrows(
            ShoppableException.class,
            () ->
                ShoppableClient.translated(
                    () -> ProductCatalogServiceGrpc.newBlockingStub(matcher).getProduct(request)));
    assertEquals(Status.Code.NOT_FOUND, error.code());
    assertEquals(name, error.resourceName());
    matcher.shutdownNow();
  }

  @Test
  void tlsIsSpokenToAServerOfTrustAndToNoOther() throws Exception {
    ChannelCredentials trusting =
        TlsChannelCredentials.newBuilder().trustManager(new File(told("TLS_ROOTS"))).build();
    assertEquals("h264", probe(trusting).getVideo().getCodec());
    ShoppableException error =
        assertThrows(ShoppableException.class, () -> probe(TlsChannelCredentials.create()));
    assertEquals(Status.Code.UNAVAILABLE, error.code());
  }

  private static ProbeVideoResponse probe(ChannelCredentials credentials) {
    ManagedChannel secure = Channels.to(told("TLS_DECODER")).credentials(credentials).open();
    VideoSource film = VideoSource.newBuilder().setUri(told("FILM_URI")).build();
    ProbeVideoRequest request = ProbeVideoRequest.newBuilder().setSource(film).build();
    try {
      return ShoppableClient.translated(() -> FrameDecoderServiceGrpc.newBlockingStub(secure).probeVideo(request));
    } finally {
      secure.shutdownNow();
    }
  }

  @Test
  void theExampleRuns() {
    ByteArrayOutputStream printed = new ByteArrayOutputStream();
    PrintStream console = System.out;
    System.setOut(new PrintStream(printed, true));
    try {
      Annotate.main(new String[] {told("ORCHESTRATOR"), told("FILM"), told("CATALOG")});
    } finally {
      System.setOut(console);
    }
    assertTrue(printed.toString().lines().count() >= 10, printed.toString());
  }
}
