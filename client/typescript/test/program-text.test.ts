import assert from "node:assert/strict";
import { test } from "node:test";

import { textOfBlob } from "../src/types/text.js";

const TEXT = [{ type: "text", text: "a" }, { type: "tool_use" }, { type: "text", text: "b" }];
const RESULT = [{ type: "tool_result", content: [{ type: "text", text: "21" }] }];

const CASES: [string, object, string][] = [
  ["claude-code", { type: "assistant", message: { content: TEXT } }, "ab"],
  ["claude-code", { type: "user", message: { content: RESULT } }, "21"],
  ["claude-code", { type: "summary", summary: "About tea" }, "About tea"],
  ["claude-code", { type: "attachment", attachment: { prompt: "go on" } }, "go on"],
  ["claude-code", { type: "file-history-snapshot", snapshot: {} }, ""],
  [
    "codex",
    {
      type: "response_item",
      payload: { type: "message", role: "user", content: [{ type: "input_text", text: "hi" }] },
    },
    "hi",
  ],
  ["codex", { type: "event_msg", payload: { type: "agent_message", message: "x" } }, "x"],
  ["openai-agents", { type: "function_call_output", output: "21" }, "21"],
  ["openai-agents", { __enc__: 1, payload: "gAAAA" }, ""],
  [
    "pydantic-ai",
    {
      kind: "response",
      parts: [
        { part_kind: "thinking", content: "hm" },
        { part_kind: "text", content: "21" },
      ],
    },
    "21",
  ],
  ["pydantic-ai", { message: { kind: "request", parts: [{ content: ["a", {}] }] } }, "a"],
  ["strands", { message: { content: [{ text: "a" }, { toolUse: {} }] } }, "a"],
  ["strands", { content: [{ toolResult: { content: [{ text: "21" }] } }] }, "21"],
  ["langchain", { type: "ai", data: { content: TEXT } }, "ab"],
  ["openai-export", { id: "n", message: { content: { parts: ["a", { x: 1 }] } } }, "a"],
  ["sharegpt", { from: "gpt", value: "a" }, "a"],
  ["bad-line", { line: 1, reason: "r", text: "{half" }, "{half"],
  ["our-agent", { content: "a" }, ""],
];

for (const [formatName, blob, text] of CASES) {
  test(`the text of ${formatName}: ${JSON.stringify(blob).slice(0, 60)}`, () => {
    assert.equal(textOfBlob({ ...blob }, "other", formatName), text);
  });
}

test("an odd message of a program has a text", () => {
  const odd: object[] = [
    {},
    { message: 1, payload: [], parts: 2, content: { a: 1 }, data: "x", value: 3 },
    { message: { content: [1, { type: 2 }], parts: {} }, payload: { type: [] } },
  ];
  for (const [formatName] of CASES) {
    for (const blob of odd) {
      assert.equal(typeof textOfBlob({ ...blob }, "other", formatName), "string");
    }
  }
});
