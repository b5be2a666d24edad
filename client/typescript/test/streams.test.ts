// Streams that a fake server breaks as each test says.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { DownloadAssetResponse } from "../src/gen/sessiond/v1/asset_service.js";
import { SendResponse, WatchResponse } from "../src/gen/sessiond/v1/conversation_service.js";
import { Message } from "../src/gen/sessiond/v1/message.js";
import { Session } from "../src/gen/sessiond/v1/session.js";
import {
  GetMessagesResponse,
  ListSessionsResponse,
} from "../src/gen/sessiond/v1/session_service.js";
import { Turn, TurnState } from "../src/gen/sessiond/v1/turn.js";
import {
  ClientClosed,
  DeadlineExceeded,
  InvalidField,
  ServerUnavailable,
  SessionNotFound,
  TurnAborted,
  TurnFailed,
} from "../src/index.js";
import { failure, fake, SILENCE } from "./support/fake-server.js";
import { LONGER_TIMEOUTS_MS } from "./support/patience.js";

const BROKEN = [
  failure("UNAVAILABLE", "Connection dropped"),
  failure("INTERNAL", "Received RST_STREAM with code 2 (Internal server error)"),
  failure("CANCELLED", "Call cancelled"),
  failure("UNAVAILABLE", "draining", { reason: "SERVER_DRAINING", retryAfterMs: 1 }),
];

function batch(seqs: number[], resumeToken = ""): GetMessagesResponse {
  const content = { $case: "json", value: '{"role":"user","content":""}' } as const;
  const messages = seqs.map((seq) => Message.create({ seq, content, format: 1 }));
  return GetMessagesResponse.create({ messages, resumeToken });
}

async function seqsOf(messages: AsyncIterable<{ seq: number }>): Promise<number[]> {
  const seqs: number[] = [];
  for await (const { seq } of messages) seqs.push(seq);
  return seqs;
}

describe("a read", () => {
  test("calls nothing before the iteration, has no deadline unless asked, and can be repeated", async () => {
    const { server, client } = await fake();
    server.on("GetMessages", [batch([1, 2])]);
    const lazy = client.sessions.getMessages("s");
    assert.equal(server.received.length, 0);
    assert.deepEqual(await seqsOf(lazy), [1, 2]);
    assert.deepEqual((await lazy.toArray()).length, 2);
    await client.sessions.getMessages("s", { timeoutMs: 5_000 }).toArray();
    const [first = 0, , third = 0] = server.received.map((call) => call.remainingMs);
    assert.ok(first > 1e9 && third <= 5_000);
  });

  for (const broken of BROKEN) {
    test(`goes on from its token after ${broken.message}`, async () => {
      const { server, client } = await fake();
      server.on(
        "GetMessages",
        [batch([9, 8], "t8"), batch([7], "t7"), broken],
        broken,
        [batch([6], "t6"), broken],
        [batch([])],
      );
      const options = {
        afterSeq: 4,
        throughSeq: 9,
        limit: 5,
        order: "desc",
        roles: ["user"],
      } as const;
      assert.deepEqual(await seqsOf(client.sessions.getMessages("s", options)), [9, 8, 7, 6]);
      const starts = server.of("GetMessages").map(({ start }) => start?.value);
      assert.deepEqual(starts, [4, "t7", "t7", "t6"]);
      for (const request of server.of("GetMessages")) {
        const { throughSeq, limit, order, roles } = request;
        assert.deepEqual([throughSeq, limit, order, roles], [9, 5, 2, [3]]);
      }
    });
  }

  test("ends with any other error", async () => {
    const { server, client } = await fake();
    const answer = failure("INTERNAL", "RST_STREAM is in the text", { reason: "INTERNAL" });
    server.on("GetMessages", [batch([1], "t"), answer]);
    await assert.rejects(seqsOf(client.sessions.getMessages("s")), { reason: "INTERNAL" });
    assert.equal(server.received.length, 1);
  });

  test("gives up where it never began", async () => {
    const { server, client } = await fake({ retries: 2 });
    server.on("GetMessages", BROKEN[0] as Error);
    await assert.rejects(seqsOf(client.sessions.getMessages("s")), ServerUnavailable);
    assert.equal(server.received.length, 3);
  });

  test("is cancelled by break, and ended by its signal and by close()", async () => {
    const { server, client } = await fake();
    server.on("GetMessages", [batch([1, 2], "t"), SILENCE]);
    for await (const _ of client.sessions.getMessages("s")) break;
    const controller = new AbortController();
    await assert.rejects(async () => {
      for await (const _ of client.sessions.getMessages("s", { signal: controller.signal })) {
        controller.abort(new Error("enough"));
      }
    }, /^Error: enough$/);
    await assert.rejects(async () => {
      for await (const _ of client.sessions.getMessages("s")) void client.close();
    }, ClientClosed);
  });

  test("a listing pages by itself", async () => {
    const { server, client } = await fake();
    const page = (sessionId: string, nextPageToken: string) =>
      ListSessionsResponse.create({ sessions: [Session.create({ sessionId })], nextPageToken });
    server.on("ListSessions", page("a", "t"), BROKEN[0] as Error, page("b", ""));
    const ids = (await client.listSessions({ user: "u" }).toArray()).map((info) => info.sessionId);
    assert.deepEqual(ids, ["a", "b"]);
    const requests = server
      .of("ListSessions")
      .map(({ filter, pageToken }) => [filter.user, pageToken]);
    assert.deepEqual(requests, [
      ["u", ""],
      ["u", "t"],
      ["u", "t"],
    ]);
  });
});

describe("a watch", () => {
  const event = (seq: number) =>
    WatchResponse.create({ events: [{ type: "user.message", seq, sessionId: "s", epoch: 2 }] });

  test("goes on from the last seq and its epoch", async () => {
    const { server, client } = await fake();
    server.on("GetSession", Session.create({ sessionId: "s", lastSeq: 4, epoch: 1 }));
    server.on(
      "Watch",
      BROKEN[0] as Error,
      [WatchResponse.create(), event(5), event(6), BROKEN[1] as Error],
      [], // a server that ends the stream without an error
      [event(7), failure("NOT_FOUND", "gone", { reason: "SESSION_NOT_FOUND" })],
    );
    const seqs: (number | undefined)[] = [];
    await assert.rejects(async () => {
      for await (const { seq } of client.sessions.events("s")) seqs.push(seq);
    }, SessionNotFound);
    assert.deepEqual(seqs, [5, 6, 7]);
    const places = server.of("Watch").map(({ afterSeq, afterEpoch }) => [afterSeq, afterEpoch]);
    assert.deepEqual(places, [
      [4, 1],
      [4, 1],
      [6, 2],
      [6, 2],
    ]);
  });

  test("goes on with the session that it began with, not another one of the same id", async () => {
    const { server, client } = await fake();
    server.on("GetSession", Session.create({ sessionId: "s", lastSeq: 4, epoch: 1, etag: "e" }));
    const recreated = { type: "session.recreated", sessionId: "s", epoch: 0 };
    server.on(
      "Watch",
      [WatchResponse.create({ epoch: 3, incarnation: "one" }), BROKEN[0] as Error],
      [
        WatchResponse.create({ epoch: 0, incarnation: "two", events: [recreated] }),
        BROKEN[0] as Error,
      ],
      [failure("NOT_FOUND", "gone", { reason: "SESSION_NOT_FOUND" })],
    );
    const types: string[] = [];
    await assert.rejects(async () => {
      const events = client.sessions.events("s", { followRecreated: true });
      for await (const { type } of events) types.push(type);
    }, SessionNotFound);
    assert.deepEqual(types, ["session.recreated"]);
    assert.deepEqual(
      server
        .of("Watch")
        .map(({ afterSeq, afterEpoch, incarnation, followRecreated }) => [
          afterSeq,
          afterEpoch,
          incarnation,
          followRecreated,
        ]),
      [
        [4, 1, "e", true],
        [4, 3, "one", true],
        [0, 0, "two", true],
      ],
    );
  });

  test("yields each character of a running answer once, over all connections", async () => {
    const { server, client } = await fake();
    const text = (type: string, data: object) =>
      WatchResponse.create({
        events: [
          {
            type: `assistant.message_${type}`,
            sessionId: "s",
            data: { turn_id: "t", answered_seq: 1, ...data },
          },
        ],
      });
    server.on(
      "Watch",
      [
        text("partial", { content: "a😀" }),
        text("delta", { delta_content: "b", offset: 2 }),
      ].concat(BROKEN[0] as never),
      [
        text("partial", { content: "a😀bcd" }),
        text("delta", { delta_content: "de", offset: 4 }),
        failure("NOT_FOUND", "gone", { reason: "SESSION_NOT_FOUND" }),
      ],
    );
    const seen: unknown[] = [];
    await assert.rejects(async () => {
      for await (const { data } of client.sessions.events("s", { afterSeq: 0 })) {
        seen.push(data.content === undefined ? data.delta_content : data.content);
      }
    }, SessionNotFound);
    assert.deepEqual(seen, ["a😀", "b", "cd", "e"]);
  });

  test("tells when its connection is lost, and when the next one delivers", async () => {
    const { server, client } = await fake();
    const gone = failure("NOT_FOUND", "gone", { reason: "SESSION_NOT_FOUND" });
    server.on(
      "Watch",
      [WatchResponse.create(), event(1), BROKEN[3] as Error],
      [BROKEN[3] as Error],
      [event(2), WatchResponse.create(), gone],
    );
    const told: boolean[] = [];
    const onConnection = (isConnected: boolean) => told.push(isConnected);
    const events = client.sessions.events("s", { afterSeq: 0, onConnection });
    await assert.rejects(events.toArray(), SessionNotFound);
    // Neither a second response nor a second failed attempt is a change.
    assert.deepEqual(told, [true, false, true, false]);
    const wrong = { onConnection: true as never };
    assert.throws(() => client.sessions.events("s", wrong), InvalidField);
  });

  test("ends at its timeout", async () => {
    const { server, client } = await fake();
    server.on("Watch", [event(1), SILENCE]);
    const events = client.sessions.events("s", { afterSeq: 0, timeoutMs: 200 }).toArray();
    await assert.rejects(events, DeadlineExceeded);
  });
});

describe("a wait for a turn", () => {
  const turn = (state: TurnState, rest: object = {}) =>
    Turn.create({ turnId: "t", sessionId: "s", state, ...rest });
  const step = (value: object) => SendResponse.create(value);
  const running = step({ turn: turn(TurnState.TURN_STATE_RUNNING), messageId: "m" });
  const answer = Message.create({ seq: 3, turn: { turnId: "t" } });

  test("joins again with the same request id, after the last seq", async () => {
    const { server, client } = await fake();
    const events = [{ type: "assistant.message", seq: 3, sessionId: "s", message: answer }];
    server.on(
      "Send",
      BROKEN[0] as Error,
      [running, step({ events }), BROKEN[1] as Error],
      [running, step({ turn: turn(TurnState.TURN_STATE_COMPLETED, { lastSeq: 3 }) })],
    );
    assert.equal((await client.sessions.sendAndWait("s", "x")).seq, 3);
    const requests = server.of("Send");
    assert.equal(new Set(requests.map(({ requestId }) => requestId)).size, 1);
    assert.deepEqual(
      requests.map(({ afterSeq }) => afterSeq),
      [0, 0, 3],
    );
  });

  test("fetches an answer that it missed", async () => {
    const { server, client } = await fake();
    server.on("Send", [step({ turn: turn(TurnState.TURN_STATE_COMPLETED, { lastSeq: 3 }) })]);
    server.on("GetMessage", answer);
    assert.equal((await client.sessions.sendAndWait("s", "x")).seq, 3);
  });

  test("throws the turn's error, with or without a status", async () => {
    const { server, client } = await fake();
    const metadata = { session_id: "s", turn_id: "t" };
    server.on("Send", [running, failure("ABORTED", "x", { reason: "TURN_ABORTED", metadata })]);
    await assert.rejects(client.sessions.sendAndWait("s", "x"), TurnAborted);
    const error = { reason: "NEW_REASON", message: "why", metadata: {} };
    server.on("Send", [step({ turn: turn(TurnState.TURN_STATE_FAILED, { error }) })]);
    await assert.rejects(
      client.sessions.sendAndWait("s", "x"),
      (caught) => caught instanceof TurnFailed && caught.message === "NEW_REASON: why",
    );
    assert.equal(server.received.length, 2);
  });

  test("names the turn when its time is over while the server is away", async () => {
    const { server, client } = await fake();
    server.on("Send", [running, BROKEN[0] as Error], BROKEN[0] as Error);
    let caught: unknown;
    for (const timeoutMs of LONGER_TIMEOUTS_MS) {
      const wait = client.sessions.sendAndWait("s", "x", { timeoutMs });
      caught = await wait.catch((error: unknown) => error);
      assert.ok(caught instanceof DeadlineExceeded);
      if (caught.metadata.turn_id) break;
    }
    assert.equal((caught as DeadlineExceeded).metadata.turn_id, "t");
  });

  test("with onTimeout abort asks the server to abort with the connection, and aborts", async () => {
    const { server, client } = await fake();
    server.on("Send", [running, SILENCE]);
    server.on("Abort", failure("INTERNAL", "x", { reason: "INTERNAL" }));
    for (const timeoutMs of LONGER_TIMEOUTS_MS) {
      const options = { timeoutMs, onTimeout: "abort" } as const;
      await assert.rejects(client.sessions.sendAndWait("s", "x", options), DeadlineExceeded);
      if (server.of("Abort").length) break;
    }
    assert.equal(server.of("Send")[0].abortOnDisconnect, true);
    assert.equal(server.of("Abort")[0].turnId, "t");
  });
});

test("a download goes on where it was, and does not ask for nothing", async () => {
  const { server, client } = await fake();
  const piece = (text: string, size?: number) =>
    DownloadAssetResponse.create({
      data: Buffer.from(text),
      ...(size && { asset: { assetId: "a", size } }),
    });
  server.on(
    "DownloadAsset",
    [piece("abc", 9), BROKEN[0] as Error],
    [piece("de"), piece("fg"), BROKEN[1] as Error],
  );
  const pieces = await client.assets.download("a", { offset: 1, length: 7 }).toArray();
  assert.equal(Buffer.concat(pieces).toString(), "abcdefg");
  const ranges = server.of("DownloadAsset").map(({ offset, length }) => [offset, length]);
  assert.deepEqual(ranges, [
    [1, 7],
    [4, 4],
  ]);
});
