import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { describe, test } from "node:test";
import { AssetMismatch, AssetNotFound, InvalidField } from "../src/index.js";
import { useClient } from "./support/fixture.js";

const given = useClient();
const content = new Uint8Array(randomBytes(700_001));
const assetId = createHash("sha256").update(content).digest("hex");

function sameBytes(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}

describe("assets", () => {
  test("come from a path, bytes, pieces and streams", async () => {
    const directory = mkdtempSync(join(tmpdir(), "sessiond-ts-"));
    const path = join(directory, "photo.png");
    writeFileSync(path, content);
    const small = Array.from({ length: 71 }, (_, i) =>
      content.subarray(i * 10_000, (i + 1) * 10_000),
    );
    const asset = await given.client.assets.upload(path);
    assert.deepEqual(
      [asset.assetId, asset.size, asset.mediaType],
      [assetId, content.length, "image/png"],
    );
    assert.equal(asset.uri, `sessiond-asset:${assetId}`);
    for (const source of [content, small, Readable.from(small)]) {
      assert.equal((await given.client.assets.upload(source)).assetId, assetId);
    }
    assert.equal((await given.client.assets.upload(new Uint8Array())).size, 0);
    assert.ok(sameBytes(await given.client.assets.read(assetId), content));
    const target = join(directory, "saved.png");
    await given.client.assets.save(assetId, target);
    assert.ok(sameBytes(readFileSync(target), content));
    assert.deepEqual(readdirSync(directory).sort(), ["photo.png", "saved.png"]);
  });

  test("are downloaded in ranges", async () => {
    await given.client.assets.upload(content);
    const range = async (options: object) =>
      Buffer.concat(await given.client.assets.download(assetId, options).toArray());
    assert.ok(sameBytes(await range({ offset: 699_000 }), content.subarray(699_000)));
    assert.ok(sameBytes(await range({ offset: 5, length: 300_000 }), content.subarray(5, 300_005)));
  });

  test("refusals are typed", async () => {
    const { assets } = given.client;
    await assert.rejects(assets.get("0".repeat(64)), AssetNotFound);
    await assert.rejects(assets.read("0".repeat(64)), AssetNotFound);
    await assert.rejects(assets.upload(content, { size: 5 }), AssetMismatch);
    await assert.rejects(assets.upload(7 as never), InvalidField);
    await assert.rejects(assets.upload(["text"] as never), InvalidField);
    assert.throws(() => assets.download(assetId, { length: 0 }), InvalidField);
    await assert.rejects(assets.upload("/nowhere/file"), { code: "ENOENT" });
  });

  test("an error of the pieces is thrown, and nothing is stored", async () => {
    async function* pieces() {
      yield content;
      throw new RangeError("out of pieces");
    }
    await assert.rejects(given.client.assets.upload(pieces()), RangeError);
  });
});

describe("files inside messages", () => {
  const image = new Uint8Array(randomBytes(1_000));
  const imageId = createHash("sha256").update(image).digest("hex");
  const base64 = Buffer.from(image).toString("base64");

  test("become assets, and the rest of the text stays byte for byte", async () => {
    const session = await given.client.createSession();
    const text =
      '{ "role":"user","content":[{"type":"image_url",' +
      `"image_url":{"url":"data:image/png;base64,${base64}"}}], "n":1.0}`;
    await session.storeMessage(text, { extractFiles: 500 });
    const [message] = await session.getMessages().toArray();
    assert.equal(
      message?.json,
      text.replace(`data:image/png;base64,${base64}`, `sessiond-asset:${imageId}`),
    );
    const asset = await given.client.assets.get(imageId);
    assert.deepEqual([asset.size, asset.mediaType], [1_000, "image/png"]);
  });

  const messages = {
    anthropic: {
      role: "user",
      content: [
        { type: "image", source: { type: "base64", media_type: "image/png", data: base64 } },
        { type: "tool_result", tool_use_id: "x", content: [] },
      ],
    },
    gemini: { role: "user", parts: [{ inlineData: { mimeType: "image/png", data: base64 } }] },
    openai: {
      role: "user",
      content: [{ type: "input_audio", input_audio: { format: "wav", data: base64 } }],
    },
  } as const;
  for (const [format, blob] of Object.entries(messages)) {
    test(`in the format ${format}`, async () => {
      const session = await given.client.createSession();
      await session.storeMessage(blob, { extractFiles: 500 });
      const [message] = await session.getMessages().toArray();
      assert.equal(message?.format, format);
      assert.equal(
        message?.json,
        JSON.stringify(blob).replace(base64, `sessiond-asset:${imageId}`),
      );
    });
  }

  test("small files and other strings stay", async () => {
    const session = await given.client.createSession();
    await session.storeMessage(messages.gemini, { extractFiles: true });
    await session.storeMessage({ role: "user", content: base64 }, { extractFiles: 10 });
    const [one, two] = await session.getMessages().toArray();
    assert.equal(one?.json, JSON.stringify(messages.gemini));
    assert.equal(two?.content, base64);
    await assert.rejects(session.storeMessage({}, { extractFiles: 0 }), InvalidField);
  });
});
