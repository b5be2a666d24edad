"""Reasoning that its provider cannot verify, e.g. because it was made for another account."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sessiond.v1.message_pb2 import Message
from sessiond_server.formats.report import ChangeKind, Report
from sessiond_server.providers.base import ModelRequest
from sessiond_server.providers.routing import Models

from ..support.model_server import HELLO, Reply
from ..support.strict_models.server import StrictModelServer
from .asking import Heard, anthropic, gemini, hear, openai, question
from .test_strict_servers import PROVIDERS

USER = {"role": "user", "content": "q"}
SEARCHED = {"type": "web_search_result", "title": "Ulm", "url": "https://u"}
HISTORIES: dict[str, list[Message]] = {
    "anthropic": anthropic(
        USER,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "c2ln"},
                {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
                {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1"}
                | {"content": [SEARCHED | {"encrypted_content": "c2ln"}]},
                {"type": "text", "text": "said"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t", "content": "found"}],
        },
    ),
    "responses": openai(
        USER,
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
        | {"content": [{"type": "output_text", "text": "said", "annotations": []}]},
        {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"},
        {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "found"},
    ),
    "gemini": gemini(
        {"role": "user", "parts": [{"text": "q"}]},
        {
            "role": "model",
            "parts": [
                {"text": "Hm.", "thought": True},
                {"text": "said", "thoughtSignature": "c2ln"},
                {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "c2ln"},
            ],
        },
        {
            "role": "user",
            "parts": [{"functionResponse": {"name": "f", "response": {"output": "found"}}}],
        },
    ),
}

# Changes that only the second report has.
EXPECTED = {
    "anthropic": {
        (2, ChangeKind.THINKING_OMITTED, ""),
        (2, ChangeKind.ITEM_REPLACED, "web_search_tool_result"),
    },
    "responses": {
        (2, ChangeKind.THINKING_OMITTED, ""),
        (3, ChangeKind.FIELD_REMOVED, "id"),
        (4, ChangeKind.ITEM_REPLACED, "compaction"),
        (5, ChangeKind.FIELD_REMOVED, "id"),
    },
    "gemini": {(2, ChangeKind.FIELD_CHANGED, "thoughtSignature")},
}


@pytest.fixture
def server() -> Iterator[StrictModelServer]:
    with StrictModelServer() as running:
        yield running


async def asked(
    server: StrictModelServer, kind: str, history: list[Message], **options: Any
) -> tuple[Heard, list[Report]]:
    """Ask a provider; return what it said, and the reports of its requests."""
    models = Models({"it": PROVIDERS[kind](server)}, environment={})
    route = models.route("it/some-model")
    reports: list[Report] = []
    made = question(list(history), model=route.model, **options)
    request = ModelRequest(
        model=made.model,
        messages=made.messages,
        options=made.options,
        on_report=reports.append,
    )
    heard = await hear(route.provider, request)
    await models.close()
    return heard, reports


@pytest.mark.parametrize("kind", HISTORIES)
async def test_a_history_is_sent_again_without_it(server: StrictModelServer, kind: str) -> None:
    heard, reports = await asked(server, kind, HISTORIES[kind])
    assert heard.text == HELLO.text
    refused, accepted = server.exchanges
    assert refused.refusal is not None
    assert accepted.refusal is None
    assert not server.differences
    text = json.dumps(accepted.body)
    assert "c2ln" not in text
    assert "gAAA" not in text
    assert text.count('"said"') == text.count('"found"') == 1
    assert len(reports) == 2
    first, second = ({(c.seq, c.kind, c.detail) for c in report} for report in reports)
    assert second - first >= EXPECTED[kind]


async def test_thinking_is_disabled_with_it_where_the_api_requires_that(
    server: StrictModelServer,
) -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    heard, reports = await asked(
        server, "anthropic", HISTORIES["anthropic"], thinking=thinking, max_tokens=4096
    )
    assert heard.text == HELLO.text
    assert ChangeKind.THINKING_DISABLED in {change.kind for change in reports[-1]}


async def test_an_answer_without_its_reasoning_item_is_sent_without_its_id(
    server: StrictModelServer,
) -> None:
    server.script(Reply("said", thinking="Hm."))
    heard, _ = await asked(server, "responses", openai(USER))
    kept = [json.loads(text) for text in heard.answer.messages]
    assert [item["type"] for item in kept] == ["reasoning", "message"]
    heard, reports = await asked(server, "responses", openai(USER, kept[1], USER))
    assert heard.text == HELLO.text
    assert [exchange.refusal is None for exchange in server.exchanges] == [True, False, True]
    assert [(change.seq, change.detail) for change in reports[-1]] == [(2, "id")]


async def test_a_request_without_it_is_not_sent_again(server: StrictModelServer) -> None:
    heard, reports = await asked(server, "anthropic", anthropic(USER), signature=1)
    assert heard.fault is not None
    assert heard.fault.reason == "MODEL_REQUEST_REJECTED"
    assert "signature" in heard.fault.message
    assert len(server.exchanges) == len(reports) == 1


async def test_a_request_that_is_refused_again_fails(server: StrictModelServer) -> None:
    heard, reports = await asked(server, "anthropic", HISTORIES["anthropic"], signature=1)
    assert heard.fault is not None
    assert heard.fault.reason == "MODEL_REQUEST_REJECTED"
    assert len(server.exchanges) == len(reports) == 2


async def test_a_history_of_an_unreadable_summary_alone_fails(server: StrictModelServer) -> None:
    summary = {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"}
    heard, _ = await asked(server, "responses", openai(summary, USER))
    assert heard.fault is not None
    assert "a summary that only its maker can read" in heard.fault.message
    assert heard.fault.metadata["seqs"] == "1"
    assert len(server.exchanges) == 1
