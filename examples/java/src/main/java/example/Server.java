package example;

import com.google.gson.Gson;
import io.grpc.CallCredentials;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.TlsChannelCredentials;
import java.io.File;
import java.io.IOException;
import java.util.Map;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;

/** The connection to the server that the environment names. */
final class Server {
  /** The largest response to accept. Batches have about 512 KiB, but one message may have 16 MiB. */
  private static final int MAX_MESSAGE_BYTES = 64 << 20;

  /**
   * Retries what is safe to repeat: UNAVAILABLE, since every change carries a request_id.
   * RESOURCE_EXHAUSTED is not in it: only with RetryInfo is it worth a retry.
   */
  private static final String SERVICE_CONFIG =
      """
      {"methodConfig": [
        {"name": [{"service": "sessiond.v1.SessionService"},
                  {"service": "sessiond.v1.ConversationService"}],
         "retryPolicy": {"maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "2s",
                         "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}""";

  private Server() {}

  /**
   * Opens a channel.
   *
   * <p>SESSIOND_TARGET is the address, SESSIOND_CA a PEM file if the server speaks TLS.
   */
  static ManagedChannel connect() throws IOException {
    String target = System.getenv().getOrDefault("SESSIOND_TARGET", "localhost:50051");
    String ca = System.getenv("SESSIOND_CA");
    ChannelCredentials transport =
        ca == null
            ? InsecureChannelCredentials.create()
            : TlsChannelCredentials.newBuilder().trustManager(new File(ca)).build();
    return Grpc.newChannelBuilder(target, transport)
        .defaultServiceConfig(new Gson().fromJson(SERVICE_CONFIG, Map.class))
        .enableRetry()
        .maxInboundMessageSize(MAX_MESSAGE_BYTES)
        // The server allows a ping every ten seconds.
        .keepAliveTime(30, TimeUnit.SECONDS)
        .build();
  }

  /** Returns what sends the API key, SESSIOND_API_KEY, with every call; nothing if there is none. */
  static CallCredentials key() {
    Metadata headers = new Metadata();
    String key = System.getenv("SESSIOND_API_KEY");
    if (key != null) {
      headers.put(
          Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + key);
    }
    return new CallCredentials() {
      @Override
      public void applyRequestMetadata(RequestInfo info, Executor executor, MetadataApplier to) {
        to.apply(headers);
      }
    };
  }
}
