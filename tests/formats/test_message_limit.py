"""APIs limit the number of messages in a request: the oldest are left out, and reported."""

import json
from typing import Any

import pytest

from sessiond_server.dialects import anthropic, openai_chat
from sessiond_server.dialects.message_limit import limited
from sessiond_server.formats.report import ChangeKind, Report

from .dialects import DIALECTS
from .native_messages import PROMPT, USER, calls, history, tool

JSON = dict[str, Any]
SYSTEM = {"role": "system", "content": "be kind"}


class TestOpenAI:
    """OpenAI accepts 2,048 messages in a request."""

    @staticmethod
    def _exchanges(count: int) -> list[JSON]:
        system = {"role": "system", "content": "be kind"}
        loop = [USER, calls("c"), tool("c"), {"role": "assistant", "content": "a"}]
        return [system, *(loop * count), PROMPT]

    def test_the_oldest_are_left_out_and_told(self) -> None:
        request, body = DIALECTS["openai"].send(history(*self._exchanges(600)))
        sent = body["messages"]
        assert [message["role"] for message in sent[:3]] == ["system", "system", "user"]
        assert "not sent" in sent[2]["content"]
        assert sent[-1] == PROMPT
        assert ChangeKind.MESSAGE_OMITTED in request.report.of(2)

    def test_the_beginning_changes_seldom(self) -> None:
        beginnings = {
            json.dumps(DIALECTS["openai"].send(history(*self._exchanges(count)))[1]["messages"][:9])
            for count in range(600, 640, 2)
        }
        assert len(beginnings) <= 2

    @pytest.mark.parametrize(
        "values",
        [
            [SYSTEM] * 3_000,
            [USER, calls(*(f"c{i}" for i in range(3_000))), tool("c1")],
            [USER, calls(*(f"c{i}" for i in range(3_000)))] + [SYSTEM] * 3_000,
        ],
    )
    def test_the_newest_prompt_is_sent_whatever_precedes_it(self, values: list[JSON]) -> None:
        request, body = DIALECTS["openai"].send(history(*values, PROMPT))
        assert body["messages"][0] == {"role": "system", "content": "Be kind."}
        assert body["messages"][-1] == PROMPT
        assert any("not sent" in str(message["content"]) for message in body["messages"])
        assert ChangeKind.MESSAGE_OMITTED in {change.kind for change in request.report}

    def test_instructions_are_left_out_last(self) -> None:
        values = [*[SYSTEM] * 1_000, *[USER, {"role": "assistant", "content": "a"}] * 1_000]
        request, body = DIALECTS["openai"].send(history(*values, PROMPT))
        assert sum(message == SYSTEM for message in body["messages"]) == 1_000
        assert not request.report.of(1)


@pytest.mark.parametrize("inline_system", [False, True])
def test_anthropic_keeps_calls_with_their_results(
    monkeypatch: pytest.MonkeyPatch, *, inline_system: bool
) -> None:
    monkeypatch.setattr(anthropic, "MAX_MESSAGES", 52)
    loop = [USER, calls("c"), tool("c"), SYSTEM, {"role": "assistant", "content": "a"}]
    dialect = anthropic.AnthropicDialect(inline_system)
    for count in range(8, 24):
        messages = history(*loop * count, PROMPT)
        request = anthropic.fit(openai_chat.History(messages), dialect)
        body = json.loads(json.dumps({"model": "m", "max_tokens": 9, **request.body}))
        DIALECTS["anthropic"].validate(body)
        assert len(body["messages"]) <= 52
        assert body["messages"][-1] == PROMPT


def test_a_group_that_is_too_large_alone_is_left_out() -> None:
    report = Report()
    large = [({"role": "assistant"}, (1,))] * 10
    newest = ({"role": "user", "content": "newest"}, (2,))
    kept = limited([large, [newest]], 10, report, is_instruction=lambda message: False)
    assert kept[-1] == newest
    assert len(kept) == 2
    assert report.of(1) == [ChangeKind.MESSAGE_OMITTED]
