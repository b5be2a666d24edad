"""Messages of OpenAI in the shapes in which SDKs and servers write them."""

import json
from typing import Any

import pytest

from sessiond.v1.message_pb2 import FORMAT_OPENAI, Message
from sessiond_server.dialects import openai_chat
from sessiond_server.dialects.openai_chat_parts import ChatDialect
from sessiond_server.dialects.request import History
from sessiond_server.formats.read import read
from sessiond_server.formats.report import ChangeKind
from sessiond_server.formats.wire import StoredObject

from .dialects import DIALECTS
from .histories import KNOWN_ASSET, MISSING_ASSET, PDF, PNG, as_message
from .native_messages import PROMPT, USER, calls, everywhere, history, text_of, tool

JSON = dict[str, Any]
ANSWER = {"role": "assistant", "content": "a"}
FINAL = ANSWER | {"type": "message"}
DATA_URL = f"data:image/png;base64,{PNG}"


def is_unchanged(name: str, value: JSON, *before: JSON) -> bool:
    """Return whether a message is sent as it is stored, without a reported change."""
    messages = history(USER, *before, value, PROMPT)
    request, _ = DIALECTS[name].send(messages)
    raws = [m.raw for m in request.body[DIALECTS[name].key] if isinstance(m, StoredObject)]
    stored = messages[len(before) + 1]
    return stored.json in raws and not request.report.of(stored.seq)


def changes(name: str, *values: JSON | Message, of: int = 2) -> list[tuple[str, str]]:
    """Return the kinds and details of the changes to a message."""
    request, _ = DIALECTS[name].send(history(USER, *values, PROMPT))
    return [(change.kind.name, change.detail) for change in request.report.changes_of(of)]


class TestPlainAnswers:
    """Answers as OpenAI's API and its SDK write them."""

    @pytest.mark.parametrize(
        "extra",
        [
            {"refusal": None, "annotations": []},
            {"refusal": None},
            {"annotations": [{"type": "url_citation", "url_citation": {"url": "https://e.com"}}]},
            {"refusal": "no", "content": None},
        ],
    )
    def test_they_go_back_as_they_came(self, extra: JSON) -> None:
        assert is_unchanged("openai", ANSWER | extra)

    def test_the_nulls_that_it_refuses_are_left_out_and_reported(self) -> None:
        nulls = dict.fromkeys(("audio", "function_call", "tool_calls"))
        assert set(changes("openai", ANSWER | nulls)) == {("FIELD_REMOVED", key) for key in nulls}

    @pytest.mark.parametrize("extra", [{"annotations": []}, {"refusal": None}, {"audio": None}])
    def test_other_servers_do_not_get_what_they_refuse(self, extra: JSON) -> None:
        assert changes("groq", ANSWER | extra) == [("FIELD_REMOVED", *extra)]

    def test_other_servers_do_not_get_references_to_audio(self) -> None:
        value = {"role": "assistant", "content": None, "audio": {"id": "audio_1"}}
        assert "audio: not sent" in text_of("groq", USER, value, PROMPT)
        assert is_unchanged("openai", value)

    @pytest.mark.parametrize("name", ["responses", "anthropic", "gemini"])
    def test_fields_without_a_value_are_no_loss_in_a_conversion(self, name: str) -> None:
        assert not changes(name, ANSWER | {"refusal": None, "annotations": [], "audio": None})

    @pytest.mark.parametrize("name", ["openai", "groq", "responses", "anthropic", "gemini"])
    def test_reasoning_that_is_left_out_is_reported_once(self, name: str) -> None:
        found = changes(name, ANSWER | {"reasoning_content": "t"})
        assert [kind for kind, _ in found] == ["THINKING_OMITTED"]

    @pytest.mark.parametrize("name", ["responses", "anthropic", "gemini"])
    def test_a_field_of_a_call_that_is_lost_is_reported(self, name: str) -> None:
        value = calls("c")
        value["tool_calls"][0]["extra_content"] = {"google": {"thought_signature": "c2ln"}}
        assert ("FIELD_REMOVED", "tool_calls.extra_content") in changes(name, value, tool("c"))

    def test_a_call_with_an_index_is_reported(self) -> None:
        value = calls("c")
        value["tool_calls"][0]["index"] = 0
        assert ("FIELD_REMOVED", "tool_calls.index") in changes("groq", value, tool("c"))


class TestParts:
    """Parts of content, with all fields that the API accepts."""

    @pytest.mark.parametrize(
        "part",
        [
            {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}},
            {"type": "image_url", "image_url": {"url": DATA_URL, "detail": "original"}},
            {"type": "image_url", "image_url": {"detail": "low", "url": "https://e.com/a.png"}},
            {"input_audio": {"format": "wav", "data": "UklGRg=="}, "type": "input_audio"},
            {"type": "file", "file": {"file_id": "file-abc"}},
        ],
    )
    def test_chat_parts_stay_as_they_are(self, part: JSON) -> None:
        assert is_unchanged("openai", {"role": "user", "content": [part]})

    @pytest.mark.parametrize(
        "part",
        [
            {"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}},
            {"type": "input_image", "image_url": DATA_URL, "detail": "original"},
            {"type": "input_file", "file_url": "https://e.com/a.pdf"},
            {
                "type": "input_file",
                "filename": "a.pdf",
                "file_data": f"data:application/pdf;base64,{PDF}",
                "detail": "high",
            },
        ],
    )
    def test_parts_of_responses_stay_as_they_are(self, part: JSON) -> None:
        value = {"type": "message", "role": "user", "content": [part]}
        assert is_unchanged("responses", value)

    @pytest.mark.parametrize("name", ["openai", "groq", "anthropic", "gemini"])
    def test_a_field_that_is_lost_is_reported(self, name: str) -> None:
        part = {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}
        part |= {"unheard_of": 1}
        found = changes(name, {"role": "user", "content": [part]})
        assert any(detail.endswith("unheard_of") for _, detail in found)
        is_kept = any(detail.endswith("prompt_cache_breakpoint") for _, detail in found)
        assert is_kept == (name != "openai")

    @pytest.mark.parametrize("name", ["anthropic", "gemini"])
    def test_a_lost_detail_is_reported(self, name: str) -> None:
        image = {"type": "image_url", "image_url": {"url": DATA_URL, "detail": "high"}}
        found = changes(name, {"role": "user", "content": [image]})
        assert ("FIELD_REMOVED", "detail") in found

    @everywhere
    @pytest.mark.parametrize("file_id", ["assistant-1", "", "file", "file-ä", "file-" + "x" * 200])
    def test_an_odd_id_of_a_file_does_not_end_its_session(self, name: str, file_id: str) -> None:
        for part in (
            {"type": "file", "file": {"file_id": file_id}},
            {"type": "input_image", "file_id": file_id, "detail": "auto"},
            {"type": "input_file", "file_id": file_id},
        ):
            assert "not sent" in text_of(name, USER, {"role": "user", "content": [part]}, PROMPT)

    def test_sound_that_a_server_refuses_is_told(self) -> None:
        part = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
        assert changes("groq", {"role": "user", "content": [part]}) == [
            ("FILE_REPLACED", "audio/wav")
        ]


RESULTS: dict[str, Any] = {
    "an object with a type": {"type": "sensor", "id": "s7", "status": "ok", "format": "raw"},
    "an object like a text": {"type": "text", "text": "five", "language": "de"},
    "a text that is no string": {"type": "text", "text": 5},
    "a file of a directory": [{"type": "file", "name": "a.txt", "size": 3}],
    "a list of such": [{"type": "sensor", "id": "s7", "data": "x"}, {"type": "sensor", "id": "s8"}],
    "a picture without a URL": {"type": "image_url", "alt": "a cat"},
}


class TestResultsThatAreJson:
    """Objects that tools return. They may have a key "type", like parts of content."""

    @everywhere
    @pytest.mark.parametrize("case", RESULTS)
    def test_no_field_of_them_vanishes(self, name: str, case: str) -> None:
        content = RESULTS[case]
        text = text_of(name, USER, calls("c"), tool("c", content), PROMPT)
        for item in content if isinstance(content, list) else [content]:
            for value in item.values():
                assert str(value) in text

    @everywhere
    def test_pictures_of_mcp_servers_are_pictures(self, name: str) -> None:
        content = [{"type": "image", "data": PNG, "mimeType": "image/png"}]
        result = as_message(tool("c", content), FORMAT_OPENAI)
        text = text_of(name, USER, calls("c"), result, PROMPT)
        assert (PNG in text) == (name != "deepseek")


def action(kind: str, **fields: Any) -> JSON:
    return {"type": kind, "id": "cu_1", "call_id": "c", "status": "completed", **fields}


COMPUTER = action("computer_call", action={"type": "screenshot"}, pending_safety_checks=[])
PATCH = action("apply_patch_call", operation={"type": "delete_file", "path": "a.py"})
SHELL = action("local_shell_call", action={"type": "exec", "command": ["ls"], "env": {}})


class TestActions:
    """Actions of the Responses API that the caller runs."""

    @staticmethod
    def screenshot(url: str) -> JSON:
        output = {"type": "computer_screenshot", "image_url": url}
        return {"type": "computer_call_output", "call_id": "c", "output": output}

    @everywhere
    def test_a_screenshot_in_an_asset_is_sent(self, name: str) -> None:
        url = f"sessiond-asset:{KNOWN_ASSET}"
        text = text_of(name, USER, COMPUTER, self.screenshot(url), PROMPT)
        assert "sessiond-asset" not in text
        assert (PNG in text) == (name != "deepseek")

    @everywhere
    @pytest.mark.parametrize(
        "url", [f"sessiond-asset:{MISSING_ASSET}", "file:///a.png", "data:image/tiff;base64,AAAA"]
    )
    def test_one_that_cannot_be_sent_is_told(self, name: str, url: str) -> None:
        text = text_of(name, USER, COMPUTER, self.screenshot(url), PROMPT)
        assert "not sent" in text

    def test_one_that_fits_is_unchanged(self) -> None:
        assert is_unchanged("responses", self.screenshot(DATA_URL), COMPUTER)

    @everywhere
    def test_a_failed_patch_is_an_error(self, name: str) -> None:
        output = {"type": "apply_patch_call_output", "call_id": "c", "status": "failed"}
        text = text_of(name, USER, PATCH, output, PROMPT)
        assert "failed" in text
        assert name == "responses" or "error" in text.lower()
        if name == "responses":
            assert is_unchanged(name, output, PATCH)

    @everywhere
    def test_the_result_of_a_local_shell_has_its_call_as_its_id(self, name: str) -> None:
        output = {"type": "local_shell_call_output", "id": "c", "output": "total 0"}
        request, body = DIALECTS[name].send(history(USER, SHELL, output, PROMPT))
        assert "There is no result" not in json.dumps(body)
        assert "total 0" in json.dumps(body)
        if name == "responses":
            assert is_unchanged(name, output, SHELL)
        assert ChangeKind.RESULT_MISSING not in request.report.of(2)

    def test_the_id_of_a_result_is_not_used_again(self) -> None:
        output = {"type": "local_shell_call_output", "id": "c", "output": "total 0"}
        search = SEARCH | {"id": "c"}
        again = SHELL | {"id": "c", "call_id": "d"}
        text_of("responses", USER, SHELL, output, search, again, PROMPT)

    @pytest.mark.parametrize("name", ["openai", "groq", "anthropic", "gemini"])
    def test_what_a_conversion_loses_is_reported(self, name: str) -> None:
        call = COMPUTER | {"pending_safety_checks": [{"id": "1", "code": "x", "message": "m"}]}
        assert ("FIELD_REMOVED", "pending_safety_checks") in changes(
            name, call, self.screenshot(DATA_URL)
        )


MALFORMED: dict[str, list[JSON]] = {
    "an action that nobody knows": [COMPUTER | {"action": {"type": "leap"}}],
    "no action": [action("computer_call", pending_safety_checks=[])],
    "a status that nobody knows": [SHELL | {"status": "odd"}],
    "calls and results without ids": [
        PATCH | {"call_id": ""},
        {"type": "apply_patch_call_output", "call_id": None, "status": "completed"},
    ],
    "a result without a call": [TestActions.screenshot(DATA_URL)],
    "a compaction of nothing": [ANSWER, {"type": "compaction", "encrypted_content": ""}],
    "a search for a number": [action("web_search_call", action={"type": "search", "query": 5})],
    "tools that are none": [
        {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "s", "tools": [{"name": 5}]}
    ],
    "an annotation that is none": [
        FINAL | {"content": [{"type": "output_text", "text": "a", "annotations": [{"x": 1}]}]}
    ],
}


@everywhere
@pytest.mark.parametrize("case", MALFORMED)
def test_items_of_other_shapes_do_not_end_their_session(name: str, case: str) -> None:
    text_of(name, USER, *MALFORMED[case], PROMPT)
    if name == "responses":
        assert changes(name, *MALFORMED[case], of=len(MALFORMED[case]) + 1)


SEARCH = {
    "type": "web_search_call",
    "id": "ws_1",
    "status": "completed",
    "action": {"type": "search", "query": "weather in Ulm"},
}
REASONING: JSON = {"type": "reasoning", "id": "rs_1", "summary": []}


class TestReasoningOfResponses:
    """Reasoning, and the items that require it."""

    def test_a_search_without_its_reasoning_is_sent_as_text(self) -> None:
        _, body = DIALECTS["responses"].send(history(USER, REASONING, SEARCH, PROMPT))
        assert "ws_1" not in json.dumps(body)
        assert "weather in Ulm" in json.dumps(body)

    def test_a_search_with_it_is_unchanged(self) -> None:
        assert is_unchanged("responses", SEARCH, REASONING | {"encrypted_content": "gAAA"})

    def test_an_item_whose_answer_was_cut_in_two_has_no_id(self) -> None:
        function = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f"}
        output = {"type": "function_call_output", "call_id": "c", "output": "o"}
        messages = history(USER, REASONING, function | {"arguments": "{}"}, output, PROMPT)[2:]
        _, body = DIALECTS["responses"].send(messages)
        assert "fc_1" not in json.dumps(body)

    @pytest.mark.parametrize(
        "shape",
        [
            {"summary": [{"text": "why"}]},
            {"summary": [{"type": "text", "text": "why"}, {"type": "summary_text"}]},
            {"content": [{"text": "why", "type": "text"}]},
            {"content": None, "status": None},
            {"content": "why", "status": "odd"},
        ],
    )
    def test_odd_shapes_do_not_end_their_session(self, shape: JSON) -> None:
        found = changes("responses", REASONING | {"encrypted_content": "gAAA"} | shape, FINAL)
        assert found

    def test_a_summary_of_null_is_one_of_nothing(self) -> None:
        value = REASONING | {"encrypted_content": "gAAA", "summary": None}
        assert changes("responses", value, FINAL) == [("FIELD_CHANGED", "summary")]


REQUEST = {"type": "mcp_approval_request", "id": "mcpr_1", "name": "delete"}
REQUEST |= {"server_label": "s", "arguments": '{"path": "a"}'}
RESPONSE = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
CALL = {"role": "assistant", "type": "function_call", "call_id": "c", "name": "look_up"}
CALL |= {"arguments": '{"q": "Ulm"}'}
OUTPUT = {"role": "tool", "type": "function_call_output", "call_id": "c", "output": "found it"}
THOUGHTS = {
    "role": "assistant",
    "content": [
        {"type": "thinking", "thinking": [{"type": "text", "text": "secret thought"}]},
        {"type": "text", "text": "an answer"},
    ],
}


class TestApprovals:
    """Approvals of calls of MCP tools."""

    def test_a_request_with_its_answer_is_unchanged(self) -> None:
        assert is_unchanged("responses", RESPONSE, REQUEST)
        request, body = DIALECTS["responses"].send(history(USER, REQUEST, RESPONSE))
        assert body["input"][1:] == [REQUEST, RESPONSE]
        assert not list(request.report)

    @everywhere
    @pytest.mark.parametrize("values", [[REQUEST], [RESPONSE], [RESPONSE, REQUEST]])
    def test_one_alone_is_sent_as_text(self, name: str, values: list[JSON]) -> None:
        text = text_of(name, USER, *values, PROMPT)
        assert ("delete" in text) == (REQUEST in values)
        assert ("approve: True" in text) == (RESPONSE in values)


class TestItemsWithRoles:
    """Items of the Responses API to which a program gave a role."""

    @everywhere
    @pytest.mark.parametrize("role", ["tool", "user"])
    def test_they_are_calls_and_results(self, name: str, role: str) -> None:
        text = text_of(name, USER, CALL, OUTPUT | {"role": role}, PROMPT)
        assert "look_up" in text
        assert "Ulm" in text
        assert "found it" in text
        assert "no result" not in text

    def test_the_role_is_reported(self) -> None:
        assert changes("responses", CALL, OUTPUT) == [("FIELD_REMOVED", "role")]


class TestThinkingParts:
    """Content of Mistral's reasoning models."""

    @pytest.mark.parametrize("name", ["openai", "groq", "responses", "anthropic", "gemini"])
    def test_no_model_gets_them_as_an_answer(self, name: str) -> None:
        text = text_of(name, USER, as_message(THOUGHTS, FORMAT_OPENAI), PROMPT)
        assert "secret thought" not in text
        assert "an answer" in text
        assert ("THINKING_OMITTED", "") in changes(name, as_message(THOUGHTS, FORMAT_OPENAI))

    def test_a_server_with_a_key_for_reasoning_gets_them_there(self) -> None:
        _, body = DIALECTS["deepseek"].send(
            history(USER, as_message(THOUGHTS, FORMAT_OPENAI), PROMPT)
        )
        assert body["messages"][2]["reasoning_content"] == "secret thought"

    def test_a_server_that_is_to_get_all_keys_gets_them_as_they_are(self) -> None:
        mistral = ChatDialect(is_openai=False, keep_unknown_keys=True, id_length=9)
        body = openai_chat.fit(
            History(history(USER, as_message(THOUGHTS, FORMAT_OPENAI), PROMPT)), mistral
        ).body
        assert body["messages"][1] == THOUGHTS


def test_ids_do_not_depend_on_where_the_history_begins() -> None:
    messages = history(*[USER, calls("ü b"), tool("ü b")] * 4, PROMPT)
    ids = [
        [
            call["id"]
            for message in DIALECTS["openai"].make(messages[start:])[1]["messages"]
            for call in message.get("tool_calls", ())
        ]
        for start in (0, 3, 6)
    ]
    assert ids[1] == ids[0][1:]
    assert ids[2] == ids[0][2:]


@pytest.mark.parametrize("detail", ["auto", None])
def test_a_detail_that_means_nothing_is_no_loss(detail: str | None) -> None:
    part = {"type": "input_image", "image_url": "https://e.com/a", "detail": detail}
    message = as_message({"role": "user", "content": [part]}, FORMAT_OPENAI)
    assert read(message).extras == []
