package dev.shoppable.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.google.protobuf.ByteString;
import com.google.protobuf.Message;
import com.google.protobuf.TypeRegistry;
import com.google.protobuf.UnknownFieldSet;
import com.google.protobuf.util.JsonFormat;
import com.google.rpc.ErrorInfo;
import dev.shoppable.v1.Image;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;

class GoldenTest {
  private static final Path GOLDEN = Path.of("../../tests/golden");
  private static final int LATER = 32767;

  @Test
  void goldenMessagesDecodeAndLaterFieldsSurvive() throws Exception {
    assumeTrue(Files.isDirectory(GOLDEN), "the golden messages are in the checkout only");
    JsonFormat.Parser json =
        JsonFormat.parser().usingTypeRegistry(TypeRegistry.newBuilder().add(ErrorInfo.getDescriptor()).build());
    UnknownFieldSet grown =
        UnknownFieldSet.newBuilder()
            .addField(LATER, UnknownFieldSet.Field.newBuilder().addVarint(42).build())
            .build();
    List<Path> files;
    try (var paths = Files.list(GOLDEN)) {
      files = paths.filter(path -> path.toString().endsWith(".binpb")).toList();
    }
    assertFalse(files.isEmpty());
    for (Path file : files) {
      // A union's alternative follows the message's name.
      String name = file.getFileName().toString().split("\\.")[2];
      Message empty =
          (Message) Class.forName("dev.shoppable.v1." + name).getMethod("getDefaultInstance").invoke(null);
      byte[] binary = Files.readAllBytes(file);
      Message message = empty.newBuilderForType().mergeFrom(binary).build();
      Message.Builder text = empty.newBuilderForType();
      json.merge(Files.readString(Path.of(file.toString().replaceFirst("binpb$", "json"))), text);
      assertEquals(message, text.build(), name);
      ByteString longer = ByteString.copyFrom(binary).concat(grown.toByteString());
      Message again =
          empty.newBuilderForType().mergeFrom(empty.newBuilderForType().mergeFrom(longer).build().toByteArray()).build();
      assertTrue(again.getUnknownFields().hasField(LATER), name);
    }
  }

  @Test
  void aLaterEnumValueSurvives() throws Exception {
    byte[] sent = Image.newBuilder().setFormatValue(99).build().toByteArray();
    assertEquals(99, Image.parseFrom(Image.parseFrom(sent).toByteArray()).getFormatValue());
  }
}
