"""Blocks of Anthropic's SDK: nulls, tools, and types of newer or beta versions."""

import json
from typing import Any

import pytest

from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC
from sessiond_server.formats.report import ChangeKind

from .dialects import DIALECTS
from .histories import as_message
from .native_messages import PROMPT, USER, blocks, everywhere, history, result, use

JSON = dict[str, Any]
DIALECT = DIALECTS["anthropic"]
TOOLS = {"tools": [{"name": "known", "input_schema": {"type": "object"}}]}


def text(value: str, **fields: Any) -> JSON:
    return {"type": "text", "text": value, **fields}


def searched(call_id: Any = "srvtoolu_1", content: Any = None, **fields: Any) -> list[JSON]:
    found = {"type": "web_search_result", "url": "https://u", "title": "Ulm today"}
    return [
        {
            "type": "server_tool_use",
            "id": "srvtoolu_1",
            "name": "web_search",
            "input": {},
            **fields,
        },
        {
            "type": "web_search_tool_result",
            "tool_use_id": call_id,
            "content": [found | {"encrypted_content": "c2ln"}] if content is None else content,
            **fields,
        },
    ]


def answered(*content: Any, options: JSON | None = None) -> tuple[list[JSON], list[ChangeKind]]:
    """Return the blocks that are sent for an answer, and the changes."""
    message = as_message(blocks("assistant", *content), FORMAT_ANTHROPIC)
    request, body = DIALECT.send(history(USER, message, PROMPT), options)
    found = body["messages"][1]["content"]
    return found if isinstance(found, list) else [text(found)], request.report.of(2)


CITATION = {
    "type": "char_location",
    "cited_text": "c",
    "document_index": 0,
    "document_title": None,
    "start_char_index": 0,
    "end_char_index": 1,
}


class TestNulls:
    """model_dump() writes null for missing values, and keys that requests may not have."""

    def test_a_null_that_the_api_accepts_is_unchanged(self) -> None:
        block = text("a", citations=None, cache_control=None)
        assert answered(block) == ([block], [])

    def test_a_call_without_a_caller(self) -> None:
        found, changes = answered(use("c") | {"caller": None, "toolset_name": None})
        assert found == [use("c") | {"toolset_name": None}]
        assert changes == [ChangeKind.RESULT_MISSING, ChangeKind.FIELD_REMOVED]

    def test_a_provider_run_call_without_a_caller(self) -> None:
        found, changes = answered(*searched(caller=None), text("a"))
        assert found == [*searched(), text("a")]
        assert {*changes} == {ChangeKind.FIELD_REMOVED}

    def test_citations_of_answers(self) -> None:
        found, changes = answered(text("a", citations=[CITATION | {"file_id": None}]))
        assert found == [text("a", citations=[CITATION])]
        assert changes == [ChangeKind.FIELD_REMOVED]

    def test_a_citation_that_is_none(self) -> None:
        found, _ = answered(text("a", citations=[{"type": "odd"}, CITATION]))
        assert found == [text("a", citations=[CITATION])]
        assert answered(text("a", citations=[{"type": "odd"}]))[0] == [text("a")]
        assert answered(text("a", citations="odd"))[0] == [text("a")]


class TestServerTools:
    """Tools that the provider runs."""

    def test_a_call_with_its_result_is_unchanged(self) -> None:
        assert answered(*searched(), text("a")) == ([*searched(), text("a")], [])

    @pytest.mark.parametrize("call_id", [["srvtoolu_1"], {"id": 1}, None, 7, "srvtoolu_2"])
    def test_a_result_of_another_id_is_told(self, call_id: Any) -> None:
        found, changes = answered(*searched(call_id), text("a"))
        assert "Ulm today" in json.dumps(found)
        assert [block["type"] for block in found] == ["text"] * 3
        assert ChangeKind.ITEM_REPLACED in changes

    @pytest.mark.parametrize(
        "content",
        [
            {"type": "odd"},
            [{"type": "web_search_result", "url": "https://u", "title": "mark"}],
            {"type": "web_search_tool_result_error", "error_code": "odd"},
            7,
        ],
    )
    def test_a_result_of_another_shape_is_told(self, content: Any) -> None:
        found, changes = answered(*searched(content=content), text("a"))
        assert [block["type"] for block in found] == ["text"] * 3
        assert ChangeKind.ITEM_REPLACED in changes

    def test_a_result_of_another_tool_is_told(self) -> None:
        call, _ = searched()
        _, other = searched()
        found, _ = answered({**call, "name": "web_fetch"}, other, text("a"))
        assert [block["type"] for block in found] == ["text"] * 3

    def test_a_call_by_code_that_is_not_sent_has_no_caller(self) -> None:
        caller = {"type": "code_execution_20250825", "tool_id": "srvtoolu_9"}
        found, changes = answered(use("c") | {"caller": caller})
        assert found == [use("c")]
        assert ChangeKind.FIELD_REMOVED in changes

    def test_a_call_by_code_keeps_its_caller(self) -> None:
        ran = {"type": "code_execution_result", "content": [], "return_code": 0}
        code = [
            {"type": "server_tool_use", "id": "srvtoolu_9", "name": "code_execution", "input": {}},
            {
                "type": "code_execution_tool_result",
                "tool_use_id": "srvtoolu_9",
                "content": ran | {"stdout": "", "stderr": ""},
            },
        ]
        caller = {"type": "code_execution_20250825", "tool_id": "srvtoolu_9"}
        call = use("c") | {"caller": caller}
        assert answered(*code, call)[0] == [*code, call]

    @pytest.mark.parametrize("kind", ["mcp", "compaction", "advisor"])
    def test_what_only_beta_versions_have_is_sent_as_text(self, kind: str) -> None:
        call = {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "f", "server_name": "s"}
        content = {
            "mcp": [
                call | {"input": {"q": "mark1"}},
                {"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1", "content": "mark1"},
            ],
            "compaction": [{"type": "compaction", "content": "mark1", "encrypted_content": "x"}],
            "advisor": [{"type": "advisor_tool_result", "tool_use_id": "x", "content": "mark1"}],
        }[kind]
        found, changes = answered(*content, text("a"))
        assert {block["type"] for block in found} == {"text"}
        assert "mark1" in json.dumps(found)
        assert ChangeKind.ITEM_REPLACED in changes


class TestResults:
    """The possible contents of tool results."""

    @staticmethod
    def _result(block: JSON, options: JSON | None = None) -> tuple[Any, list[ChangeKind]]:
        answer = as_message(blocks("assistant", use("c")), FORMAT_ANTHROPIC)
        message = as_message(blocks("user", block), FORMAT_ANTHROPIC)
        request, body = DIALECT.send(history(USER, answer, message), options)
        return body["messages"][2]["content"][0], request.report.of(3)

    def test_a_reference_to_a_tool_that_is_defined_is_unchanged(self) -> None:
        block = result("c", [{"type": "tool_reference", "tool_name": "known"}])
        assert self._result(block, TOOLS) == (block, [])

    def test_a_reference_to_another_tool_is_told(self) -> None:
        block = result("c", [{"type": "tool_reference", "tool_name": "unknown"}])
        found, changes = self._result(block, TOOLS)
        assert "unknown" in found["content"][0]["text"]
        assert changes == [ChangeKind.ITEM_REPLACED]

    @pytest.mark.parametrize(
        "block",
        [
            {"type": "search_result", "source": "s", "title": "mark1"},
            {"type": "search_result", "source": "s", "title": "mark1", "content": "odd"},
            {"type": "search_result", "source": "s", "title": "mark1", "content": [text(" ")]},
            {"type": "search_result", "title": "mark1", "content": [text("a")]},
            {"type": "browser_state", "tabs": [], "note": "mark1"},
        ],
    )
    @pytest.mark.parametrize("place", ["message", "result"])
    def test_a_block_that_lacks_something_is_sent_as_text(self, block: JSON, place: str) -> None:
        message = blocks("user", block if place == "message" else result("c", [block]))
        answer = as_message(blocks("assistant", use("c")), FORMAT_ANTHROPIC)
        stored = history(USER, answer, as_message(message, FORMAT_ANTHROPIC))
        request, body = DIALECT.send(stored)
        assert "mark1" in json.dumps(body)
        assert ChangeKind.ITEM_REPLACED in request.report.of(3)

    def test_a_search_result_is_unchanged(self) -> None:
        found = {"type": "search_result", "source": "s", "title": "t", "content": [text("a")]}
        block = result("c", [found | {"citations": {"enabled": True}}])
        assert self._result(block) == (block, [])

    @pytest.mark.parametrize("is_error", [None, "yes", 1])
    def test_an_odd_mark_of_an_error_is_left_out(self, is_error: Any) -> None:
        found, changes = self._result(result("c") | {"is_error": is_error})
        assert found == result("c")
        assert changes == [ChangeKind.FIELD_REMOVED]

    @pytest.mark.parametrize("content", [["a string"], {"type": "text", "text": "a string"}])
    def test_a_content_of_another_form_is_reported(self, content: Any) -> None:
        found, changes = self._result(result("c", content))
        assert found["content"] == [text("a string")]
        assert changes == [ChangeKind.FIELD_CHANGED]

    def test_results_in_two_messages_are_reported_as_one(self) -> None:
        answer = blocks("assistant", use("a"), use("b"))
        stored = history(USER, answer, blocks("user", result("a")), blocks("user", result("b")))
        request, body = DIALECT.send(stored)
        assert len(body["messages"]) == 3
        assert request.report.of(3) == request.report.of(4) == [ChangeKind.MESSAGES_MERGED]


def test_an_integer_beyond_doubles_is_sent_as_text() -> None:
    answer = blocks("assistant", use("c", n=10**400))
    found, changes = answered(*answer["content"])
    assert found[0]["input"] == {"arguments": json.dumps({"n": 10**400}, separators=(",", ":"))}
    assert ChangeKind.ARGUMENTS_WRAPPED in changes


@everywhere
def test_names_of_text_documents_are_reported_where_they_are_lost(name: str) -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "a"}
    block = {"type": "document", "source": source, "title": "t"}
    stored = history(as_message(blocks("user", result("c", [block]), block), FORMAT_ANTHROPIC))
    request, body = DIALECTS[name].send(stored)
    is_kept = '"title": "t"' in json.dumps(body)
    assert is_kept or ChangeKind.FIELD_REMOVED in request.report.of(1)
