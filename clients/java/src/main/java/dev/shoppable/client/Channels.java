package dev.shoppable.client;

import com.google.gson.Gson;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.Reader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** Opens channels that are set up right: retries, balancing, message sizes, and who is calling. */
public final class Channels {
  private static final int MAX_MESSAGE_BYTES = 64 << 20;
  private static final Metadata.Key<String> API_KEY = Metadata.Key.of("x-api-key", Metadata.ASCII_STRING_MARSHALLER);
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  private Channels() {}

  /**
   * Starts a channel to host:port or any other gRPC name, in plain text: for loopback, and for networks that encrypt by
   * themselves.
   */
  public static Builder to(String target) {
    return new Builder(target);
  }

  /** What a channel is to be like. */
  public static final class Builder {
    private final String target;
    private final Metadata identity = new Metadata();
    private ChannelCredentials credentials = InsecureChannelCredentials.create();

    private Builder(String target) {
      this.target = target;
    }

    /** Encrypts; {@link io.grpc.TlsChannelCredentials} reads PEM files, also for mutual TLS. */
    public Builder credentials(ChannelCredentials credentials) {
      this.credentials = credentials;
      return this;
    }

    /** Sends a key with each call, as x-api-key. */
    public Builder apiKey(String key) {
      identity.put(API_KEY, key);
      return this;
    }

    /** Sends a JWT with each call, as authorization: Bearer. */
    public Builder token(String token) {
      identity.put(AUTHORIZATION, "Bearer " + token);
      return this;
    }

    /** Opens the channel; it connects with the first call. */
    public ManagedChannel open() {
      return Grpc.newChannelBuilder(target, credentials)
          .defaultServiceConfig(serviceConfig())
          .enableRetry()
          .maxInboundMessageSize(MAX_MESSAGE_BYTES)
          // The default would silently switch retries off for a call that carries a picture.
          .perRpcBufferLimit(MAX_MESSAGE_BYTES)
          .retryBufferSize(4L * MAX_MESSAGE_BYTES)
          // Finds a peer that is gone without a word; servers accept a ping a minute while calls run.
          .keepAliveTime(1, TimeUnit.MINUTES)
          .keepAliveTimeout(10, TimeUnit.SECONDS)
          .intercept(MetadataUtils.newAttachHeadersInterceptor(identity))
          .build();
    }
  }

  /** The services' deadlines and retries, as they lie beside the protos; `make gen` copies them here. */
  @SuppressWarnings("unchecked") // an object of JSON is a map
  static Map<String, ?> serviceConfig() {
    try (Reader reader =
        new InputStreamReader(Channels.class.getResourceAsStream("service_config.json"), StandardCharsets.UTF_8)) {
      return new Gson().fromJson(reader, Map.class);
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }
}
