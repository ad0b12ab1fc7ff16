package dev.shoppable.client;

import dev.shoppable.v1.VideoSource;
import dev.shoppable.v1.VideoUpload;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.OptionalLong;

/** Where a video comes from. */
public final class Source {
  private final String uri;
  private final Opening opening;

  private Source(String uri, Opening opening) {
    this.uri = uri;
    this.opening = opening;
  }

  /** A file of this machine; it is uploaded. */
  public static Source file(Path path) {
    return new Source(null, () -> new Bytes(Files.newInputStream(path), OptionalLong.of(Files.size(path))));
  }

  /** An address that the decoder can read by itself. */
  public static Source uri(String uri) {
    return new Source(uri, null);
  }

  /** A video that comes as it is read, and is uploaded; the stream is closed in the end. */
  public static Source stream(InputStream stream) {
    return new Source(null, () -> new Bytes(stream, OptionalLong.empty()));
  }

  /** Opens what is to be uploaded; nothing for a URI. */
  Bytes open() throws IOException {
    return opening == null ? new Bytes(InputStream.nullInputStream(), OptionalLong.empty()) : opening.open();
  }

  VideoSource describe(Bytes bytes) {
    if (uri != null) {
      return VideoSource.newBuilder().setUri(uri).build();
    }
    VideoUpload.Builder upload = VideoUpload.newBuilder();
    bytes.size().ifPresent(upload::setTotalBytes);
    return VideoSource.newBuilder().setUpload(upload).build();
  }

  record Bytes(InputStream stream, OptionalLong size) {}

  private interface Opening {
    Bytes open() throws IOException;
  }
}
