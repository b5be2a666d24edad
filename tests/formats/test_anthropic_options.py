"""Anthropic: cache markers, instructions and reasoning, in the options and in the history."""

import json
from typing import Any

import pytest

from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC, FORMAT_OPENAI
from sessiond_server.dialects.anthropic import AnthropicDialect, fit
from sessiond_server.formats.report import ChangeKind
from sessiond_server.formats.wire import StoredObject

from ..support.strict_models.anthropic_messages import validate_anthropic
from .dialects import DIALECTS, Dialect
from .histories import as_message
from .native_messages import PROMPT, SIGNED, USER, blocks, calls, history, result, tool, use

JSON = dict[str, Any]
DIALECT = DIALECTS["anthropic"]
INLINE = Dialect(
    lambda h: fit(h, AnthropicDialect(inline_system=True)),
    validate_anthropic,
    "anthropic",
    DIALECT.is_own,
    options={"max_tokens": 100},
)
SHORT, LONG = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
ANSWER = {"role": "assistant", "content": "a"}


def marked(marker: Any, text: str = "t") -> JSON:
    block = {"type": "text", "text": text, "cache_control": marker}
    return as_message(blocks("user", block), FORMAT_ANTHROPIC)  # type: ignore[return-value]


def markers(value: Any) -> list[Any]:
    """Return the markers of a request in the order in which the API reads them."""
    if isinstance(value, list):
        return [marker for item in value for marker in markers(item)]
    if not isinstance(value, dict):
        return []
    own = [value["cache_control"]] if value.get("cache_control") else []
    return own + [marker for item in value.values() for marker in markers(item)]


def all_markers(body: JSON) -> list[Any]:
    parts = [body.get(key) for key in ("tools", "system", "messages")]
    return markers(parts) + ([body["cache_control"]] if "cache_control" in body else [])


class TestMarkers:
    """A request may have four cache markers, the longer-lived first."""

    TOOL = {"name": "f", "input_schema": {"type": "object"}, "cache_control": SHORT}  # noqa: RUF012

    def test_those_of_the_options_count(self) -> None:
        options = {
            "cache_control": SHORT,
            "tools": [self.TOOL],
            "system": [{"type": "text", "text": "s", "cache_control": SHORT}],
        }
        request, body = DIALECT.send(history(*[marked(SHORT) for _ in range(3)]), options)
        assert len(all_markers(body)) == 4
        assert "cache_control" in body
        assert len(markers(body["messages"])) == 3
        assert ChangeKind.CACHE_MARKER_REMOVED in request.report.of(0)

    def test_four_are_unchanged(self) -> None:
        stored = history(*[marked(SHORT) for _ in range(2)])
        options = {"cache_control": SHORT, "tools": [self.TOOL]}
        request, body = DIALECT.send(stored, options)
        assert len(all_markers(body)) == 4
        assert all(isinstance(message, StoredObject) for message in request.body["messages"])
        assert not request.report

    @pytest.mark.parametrize("first", ["tools", "messages"])
    def test_a_long_one_behind_a_short_one_becomes_short(self, first: str) -> None:
        options = {"tools": [self.TOOL]} if first == "tools" else {}
        stored = history(*([] if first == "tools" else [marked(SHORT)]), marked(LONG))
        request, body = DIALECT.send(stored, options)
        assert all_markers(body) == [SHORT, {"type": "ephemeral", "ttl": "5m"}]
        assert ChangeKind.FIELD_CHANGED in request.report.of(0)

    def test_a_long_one_before_a_short_one_is_unchanged(self) -> None:
        request, body = DIALECT.send(history(marked(LONG), marked(SHORT)))
        assert all_markers(body) == [LONG, SHORT]
        assert not request.report

    def test_a_short_one_that_is_removed_shortens_no_other(self) -> None:
        stored = history(marked(SHORT), *[marked(LONG) for _ in range(4)])
        _, body = DIALECT.send(stored)
        assert all_markers(body) == [LONG] * 4

    @pytest.mark.parametrize(
        ("odd", "kept"),
        [
            ("ephemeral", []),
            (True, []),
            ({"type": "persistent"}, []),
            ({}, []),
            ({"type": "ephemeral", "ttl": "2h"}, [SHORT]),
            ({"type": "ephemeral", "scope": "global"}, [SHORT]),
            ({"type": "ephemeral", "ttl": None}, [SHORT]),
        ],
    )
    def test_odd_ones_are_repaired_or_removed(self, odd: Any, kept: list[JSON]) -> None:
        request, body = DIALECT.send(history(marked(odd)))
        assert all_markers(body) == kept
        assert request.report.of(1)
        options = {"tools": [{**self.TOOL, "cache_control": odd}], "cache_control": odd}
        request, body = DIALECT.send(history(USER), options)
        assert all_markers(body) == kept * 2
        assert request.report.of(0)

    def test_keys_of_arguments_are_no_markers(self) -> None:
        answer = blocks("assistant", *(use(f"c{i}", cache_control=SHORT) for i in range(6)))
        request, _ = DIALECT.send(history(USER, as_message(answer, FORMAT_ANTHROPIC)))
        assert ChangeKind.CACHE_MARKER_REMOVED not in request.report.of(0)


class TestInstructionsOfOptions:
    """The option `system`, in all its forms."""

    @pytest.mark.parametrize(
        ("system", "texts"),
        [
            ("Be brief.", ["Be brief."]),
            (" \n", []),
            ("", []),
            (None, []),
            ([], []),
            ({"type": "text", "text": "Be brief."}, ["Be brief."]),
            ({"text": "Be brief."}, ["Be brief."]),
            (["a", {"type": "text", "text": "b"}, {"text": " "}], ["a", "b"]),
            ([{"type": "image"}, 3], []),
            (3, []),
        ],
    )
    def test_it_reaches_the_model(self, system: Any, texts: list[str]) -> None:
        request, body = DIALECT.send(history(USER), {"system": system})
        assert [block["text"] for block in body["system"]] == [*texts, "Be kind."]
        given = len(system) if isinstance(system, list) else int(system is not None)
        assert bool(request.report) == (given > len(texts))


class TestInlineInstructions:
    """Models that accept system messages accept them between a user's message and an answer."""

    SYSTEM = {"role": "system", "content": "speak French"}  # noqa: RUF012

    @staticmethod
    def _roles(*values: JSON) -> list[str]:
        _, body = INLINE.send(history(*values))
        return [message["role"] for message in body["messages"]]

    def test_before_an_answer(self) -> None:
        roles = self._roles(USER, self.SYSTEM, ANSWER, PROMPT)
        assert roles == ["user", "system", "assistant", "user"]

    def test_at_the_end(self) -> None:
        assert self._roles(USER, ANSWER, PROMPT, self.SYSTEM)[-2:] == ["user", "system"]

    def test_behind_an_answer_it_is_quoted(self) -> None:
        assert self._roles(USER, ANSWER, self.SYSTEM, PROMPT) == [
            *("user", "assistant", "user", "user")
        ]

    def test_between_prompts_it_is_quoted(self) -> None:
        assert self._roles(USER, self.SYSTEM, PROMPT) == ["user"] * 3

    def test_two_become_one(self) -> None:
        request, body = INLINE.send(history(USER, self.SYSTEM, self.SYSTEM, ANSWER, PROMPT))
        assert [message["role"] for message in body["messages"]][:3] == [
            *("user", "system", "assistant")
        ]
        assert json.dumps(body).count("speak French") == 2
        assert request.report.of(2) == request.report.of(3) == [ChangeKind.MESSAGES_MERGED]

    def test_behind_results(self) -> None:
        values = [USER, calls("a"), tool("a"), self.SYSTEM, ANSWER, PROMPT]
        assert self._roles(*values)[2:5] == ["user", "system", "assistant"]

    def test_one_that_fits_is_unchanged(self) -> None:
        stored = as_message(self.SYSTEM, FORMAT_ANTHROPIC)
        request, _ = INLINE.send(history(USER, stored, ANSWER, PROMPT))
        assert isinstance(request.body["messages"][1], StoredObject)
        assert not request.report


@pytest.mark.parametrize("number", [FORMAT_ANTHROPIC, FORMAT_OPENAI])
@pytest.mark.parametrize("place", [0, 2])
def test_keys_of_instructions_that_are_not_sent_are_reported(place: int, number: int) -> None:
    values: list[Any] = [USER, ANSWER, PROMPT]
    values.insert(place, as_message({"role": "system", "content": "s", "name": "n"}, number))
    request, _ = DIALECT.send(history(*values))
    assert ChangeKind.FIELD_REMOVED in request.report.of(place + 1)


@pytest.mark.parametrize("place", [0, 2])
def test_what_documents_in_instructions_lose_is_reported(place: int) -> None:
    source = {"type": "content", "content": "the rules"}
    block = {"type": "document", "source": source, "context": "c"}
    values: list[Any] = [USER, ANSWER, PROMPT]
    values.insert(place, as_message(blocks("system", block), FORMAT_ANTHROPIC))
    request, body = DIALECT.send(history(*values))
    assert "the rules" in json.dumps(body)
    assert ChangeKind.FIELD_REMOVED in request.report.of(place + 1)


class TestReasoning:
    """The option `thinking` in a running loop of tools, and reasoning that the API refuses."""

    OPTIONS = {  # noqa: RUF012
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "max_tokens": 2000,
    }

    @pytest.mark.parametrize(
        "after",
        [[], [PROMPT], [PROMPT, PROMPT], [{"role": "system", "content": "s"}]],
    )
    def test_it_is_disabled_whatever_follows_the_results(self, after: list[JSON]) -> None:
        stored = history(USER, calls("a"), tool("a"), *after)
        request, body = DIALECT.send(stored, self.OPTIONS)
        assert "thinking" not in body
        assert ChangeKind.THINKING_DISABLED in request.report.of(0)

    @pytest.mark.parametrize("after", [[], [PROMPT]])
    def test_it_stays_if_the_answer_has_it(self, after: list[JSON]) -> None:
        stored = history(
            USER, blocks("assistant", SIGNED, use("a")), blocks("user", result("a")), *after
        )
        assert "thinking" in DIALECT.send(stored, self.OPTIONS)[1]

    def test_it_stays_after_a_loop(self) -> None:
        stored = history(USER, calls("a"), tool("a"), ANSWER, PROMPT)
        assert "thinking" in DIALECT.send(stored, self.OPTIONS)[1]

    @pytest.mark.parametrize(
        "block",
        [
            {"type": "thinking", "signature": "c2ln"},
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking", "thinking": None, "signature": "c2ln"},
            {"type": "redacted_thinking"},
            {"type": "redacted_thinking", "data": ""},
        ],
    )
    def test_what_the_api_refuses_is_left_out(self, block: JSON) -> None:
        answer = blocks("assistant", block, {"type": "text", "text": "a"})
        request, body = DIALECT.send(history(USER, as_message(answer, FORMAT_ANTHROPIC), PROMPT))
        assert body["messages"][1]["content"] == [{"type": "text", "text": "a"}]
        assert ChangeKind.THINKING_OMITTED in request.report.of(2)

    def test_hidden_reasoning_is_unchanged(self) -> None:
        hidden = {"type": "thinking", "thinking": "", "signature": "c2ln"}
        answer = blocks("assistant", hidden, {"type": "text", "text": "a"})
        request, body = DIALECT.send(history(USER, answer, PROMPT))
        assert body["messages"][1] == answer
        assert not request.report

    def test_an_answer_does_not_end_with_it(self) -> None:
        answer = blocks("assistant", SIGNED, {"type": "text", "text": "a"}, SIGNED)
        request, body = DIALECT.send(history(USER, answer, PROMPT))
        assert body["messages"][1]["content"] == answer["content"][:2]
        assert request.report.of(2) == [ChangeKind.THINKING_OMITTED]

    @pytest.mark.parametrize("name", [name for name in DIALECTS if name != "anthropic"])
    def test_other_models_are_not_told_of_what_they_cannot_read(self, name: str) -> None:
        block = {"type": "redacted_thinking", "data": "c2VjcmV0"}
        answer = blocks("assistant", block, {"type": "text", "text": "a"})
        request, body = DIALECTS[name].send(history(USER, answer, PROMPT))
        assert "c2VjcmV0" not in json.dumps(body)
        assert request.report.of(2)


def test_a_blank_prompt_is_replaced_wherever_it_is() -> None:
    blank = {"role": "user", "content": " "}
    _, first = DIALECT.send(history(USER, ANSWER, blank))
    _, second = DIALECT.send(history(USER, ANSWER, blank, ANSWER, PROMPT))
    assert second["messages"][:3] == first["messages"]
