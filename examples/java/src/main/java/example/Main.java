package example;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Base64;
import java.util.Iterator;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import sessiond.v1.ConversationServiceGrpc;
import sessiond.v1.ConversationServiceGrpc.ConversationServiceBlockingStub;
import sessiond.v1.CreateSessionRequest;
import sessiond.v1.Event;
import sessiond.v1.Format;
import sessiond.v1.GetMessagesRequest;
import sessiond.v1.GetMessagesResponse;
import sessiond.v1.GetSessionRequest;
import sessiond.v1.Message;
import sessiond.v1.SendRequest;
import sessiond.v1.SendResponse;
import sessiond.v1.Session;
import sessiond.v1.SessionServiceGrpc;
import sessiond.v1.SessionServiceGrpc.SessionServiceBlockingStub;
import sessiond.v1.StoreMessagesRequest;
import sessiond.v1.StoreMessagesResponse;
import sessiond.v1.WatchRequest;
import sessiond.v1.WatchResponse;

/**
 * A client of sessiond in Java: it creates a session, stores, streams and watches messages, asks a
 * model, and handles an error.
 *
 * <p>The other commands read and write one session, one message a line in base64, so that tests can
 * compare languages.
 */
public final class Main {
  private final SessionServiceBlockingStub sessions;
  private final ConversationServiceBlockingStub conversations;

  private Main(ManagedChannel channel) {
    sessions = SessionServiceGrpc.newBlockingStub(channel).withCallCredentials(Server.key());
    conversations =
        ConversationServiceGrpc.newBlockingStub(channel).withCallCredentials(Server.key());
  }

  public static void main(String[] arguments) throws Exception {
    ManagedChannel channel = Server.connect();
    try {
      Main main = new Main(channel);
      switch (arguments.length == 0 ? "" : arguments[0]) {
        case "" -> main.demo();
        case "write" -> main.write(arguments[1]);
        case "read" -> main.read(arguments[1]);
        case "watch" -> main.watch(arguments[1], Integer.parseInt(arguments[2]));
        case "reason" -> System.out.println(main.reason(arguments[1]));
        default -> throw new IllegalArgumentException("unknown command " + arguments[0]);
      }
    } finally {
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  private void demo() {
    // Create.
    String id = "java-" + UUID.randomUUID();
    Session session =
        sessions.createSession(
            CreateSessionRequest.newBuilder()
                .setSession(Session.newBuilder().setSessionId(id).setModel("echo"))
                .setRequestId(id + "-create")
                .build());
    System.out.println("created " + session.getSessionId().equals(id));

    // Store. A repeated request_id stores nothing, and gets the response of the first call.
    for (int i = 0; i < 2; i++) {
      StoreMessagesResponse stored =
          sessions.storeMessages(
              StoreMessagesRequest.newBuilder()
                  .setSessionId(id)
                  .addMessages(openai("{\"role\": \"user\", \"content\": \"Hello\"}"))
                  .setRequestId(id + "-store")
                  .build());
      System.out.println("stored at " + stored.getFirstSeq());
    }

    // Stream.
    read(id);

    // Send. Deltas come while the model writes; the events with a seq are what is stored.
    SendRequest send =
        SendRequest.newBuilder()
            .setSessionId(id)
            .setPrompt("How are you?")
            .setRequestId(id + "-send")
            .build();
    StringBuilder text = new StringBuilder();
    for (Iterator<SendResponse> steps = conversations.send(send); steps.hasNext(); ) {
      for (Event event : steps.next().getEventsList()) {
        if (event.getType().equals("assistant.message_delta")) {
          text.append(event.getData().getFieldsOrThrow("delta_content").getStringValue());
        }
      }
    }
    System.out.println("model: " + text);

    // Watch, from the beginning.
    watch(id, 3);

    // An error has a reason.
    System.out.println("error: " + reason("no-such-session"));
  }

  private static Message openai(String json) {
    return Message.newBuilder().setFormat(Format.FORMAT_OPENAI).setJson(json).build();
  }

  private static void print(Message message) {
    System.out.println(Base64.getEncoder().encodeToString(message.getJson().getBytes(UTF_8)));
  }

  /** Stores the messages on standard input. */
  private void write(String id) {
    sessions.createSession(
        CreateSessionRequest.newBuilder()
            .setSession(Session.newBuilder().setSessionId(id))
            .setGetOrCreate(true)
            .build());
    StoreMessagesRequest.Builder request =
        StoreMessagesRequest.newBuilder()
            .setSessionId(id)
            .setRequestId(UUID.randomUUID().toString());
    new BufferedReader(new InputStreamReader(System.in, UTF_8))
        .lines()
        .forEach(
            line ->
                request.addMessages(openai(new String(Base64.getDecoder().decode(line), UTF_8))));
    sessions.storeMessages(request.build());
  }

  /** Prints a session's messages. A stream that breaks is resumed from its last resume_token. */
  private void read(String id) {
    GetMessagesRequest.Builder request = GetMessagesRequest.newBuilder().setSessionId(id);
    while (true) {
      try {
        Iterator<GetMessagesResponse> batches = sessions.getMessages(request.build());
        while (batches.hasNext()) {
          GetMessagesResponse batch = batches.next();
          batch.getMessagesList().forEach(Main::print);
          request.setResumeToken(batch.getResumeToken());
        }
        return;
      } catch (StatusRuntimeException e) {
        if (e.getStatus().getCode() != Status.Code.UNAVAILABLE) {
          throw e;
        }
      }
    }
  }

  /** Prints the first messages of a session, and waits for those that are still to come. */
  private void watch(String id, int count) {
    WatchRequest request = WatchRequest.newBuilder().setSessionId(id).setAfterSeq(0).build();
    Iterator<WatchResponse> responses = conversations.watch(request);
    while (count > 0) {
      for (Event event : responses.next().getEventsList()) {
        if (event.getSeq() > 0 && count > 0) {
          print(event.getMessage());
          count--;
        }
      }
    }
  }

  /** Returns why a session cannot be read. */
  private String reason(String id) {
    try {
      sessions.getSession(GetSessionRequest.newBuilder().setSessionId(id).build());
      return "OK";
    } catch (StatusRuntimeException e) {
      return reasonOf(e);
    }
  }

  /** Returns the reason of an error, such as SESSION_NOT_FOUND; if it has none, its status code. */
  private static String reasonOf(StatusRuntimeException error) {
    com.google.rpc.Status status = StatusProto.fromThrowable(error);
    if (status != null) {
      for (Any detail : status.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          try {
            return detail.unpack(ErrorInfo.class).getReason();
          } catch (InvalidProtocolBufferException e) {
            throw new IllegalStateException(e);
          }
        }
      }
    }
    return error.getStatus().getCode().name();
  }
}
