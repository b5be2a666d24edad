"""Contents of Gemini in the shapes in which its API and its SDKs write them."""

import base64
import json
from typing import Any

import pytest

from sessiond.v1.message_pb2 import FORMAT_GEMINI, FORMAT_OPENAI
from sessiond_server.dialects.gemini import NO_SIGNATURE
from sessiond_server.dialects.request import BLANK
from sessiond_server.formats.report import ChangeKind
from sessiond_server.formats.wire import StoredObject

from .dialects import DIALECTS
from .histories import KNOWN_ASSET, MISSING_ASSET, PNG, as_message
from .native_messages import PROMPT, USER, calls, everywhere, history, text_of, tool

JSON = dict[str, Any]
GEMINI = DIALECTS["gemini"]
SIGNED = {"thoughtSignature": "c2ln"}
URL_SAFE = base64.urlsafe_b64encode(b"\x89PNG\r\n\x1a\n\xfb\xff\xfe").decode()


def user(*parts: JSON) -> JSON:
    return {"role": "user", "parts": [*parts]}


def model(*parts: JSON) -> JSON:
    return {"role": "model", "parts": [*parts]}


def call(**fields: Any) -> JSON:
    return {"functionCall": {"name": "look_up", "args": {"q": "Ulm"}, **fields}}


def response(**fields: Any) -> JSON:
    return {"functionResponse": {"name": "look_up", "response": {"n": "found"}, **fields}}


def sent(*values: JSON) -> list[JSON]:
    """Return the contents of a request that Gemini has accepted."""
    _, body = GEMINI.send(history(*values))
    contents: list[JSON] = body["contents"]
    return contents


def changes(*values: JSON, of: int = 2) -> list[tuple[str, str]]:
    """Return the kinds and details of the changes to a message."""
    request, _ = GEMINI.send(history(user({"text": "q"}), *values))
    return [(change.kind.name, change.detail) for change in request.report.changes_of(of)]


def is_unchanged(*values: JSON, of: int = 2) -> bool:
    """Return whether a message is sent as it is stored, without a reported change."""
    messages = history(user({"text": "q"}), *values)
    request, _ = GEMINI.send(messages)
    raws = [c.raw for c in request.body["contents"] if isinstance(c, StoredObject)]
    return messages[of - 1].json in raws and not request.report.of(of)


class TestIds:
    """Ids of calls, which Gemini's API returns only sometimes."""

    @pytest.mark.parametrize("empty", [None, ""])
    def test_a_call_without_an_id_and_its_result_have_none(self, empty: str | None) -> None:
        contents = sent(
            user({"text": "q"}), model(call(id=empty) | SIGNED), user(response(id=empty))
        )
        assert "id" not in json.dumps(contents[1:]).replace('"id": null', "")

    def test_nulls_are_kept(self) -> None:
        made = model(call(id=None) | SIGNED)
        assert is_unchanged(made, user(response(id=None)))
        assert is_unchanged(made, user(response(id=None)), of=3)

    def test_an_id_of_the_result_alone_is_reported(self) -> None:
        found = changes(model(call() | SIGNED), user(response(id="x")), of=3)
        assert found == [("FIELD_REMOVED", "functionResponse.id")]

    def test_an_id_of_the_call_alone_is_given_to_the_result(self) -> None:
        contents = sent(user({"text": "q"}), model(call(id="x") | SIGNED), user(response()))
        assert contents[2]["parts"][0]["functionResponse"]["id"] == "x"


class TestFiles:
    """Files within contents."""

    @pytest.mark.parametrize("data", [URL_SAFE, PNG])
    def test_either_alphabet_is_unchanged(self, data: str) -> None:
        blob = {"mime_type": "image/png", "data": data, "display_name": "a.png"}
        assert is_unchanged(model({"text": "a"}), user({"inline_data": blob}), of=3)

    def test_padding_is_added(self) -> None:
        blob = {"mimeType": "image/png", "data": URL_SAFE.rstrip("=")}
        signed = {"text": "a", "thoughtSignature": "-__-_w"}
        contents = sent(user({"inlineData": blob}), model(signed), USER)
        assert contents[1]["parts"][0]["thoughtSignature"] == "+//+/w=="
        assert len(contents[0]["parts"][0]["inlineData"]["data"]) % 4 == 0

    @pytest.mark.parametrize("name", ["openai", "groq", "responses", "anthropic"])
    def test_others_get_the_standard_alphabet(self, name: str) -> None:
        value = user({"inlineData": {"mimeType": "image/png", "data": URL_SAFE}})
        standard = URL_SAFE.replace("-", "+").replace("_", "/")
        assert standard in text_of(name, value)

    @pytest.mark.parametrize("media_type", ["image/jpg", "image/PNG"])
    def test_media_types_have_one_spelling(self, media_type: str) -> None:
        data = "/9j/4AAQ" if "jp" in media_type else PNG
        part = {"inlineData": {"mimeType": media_type, "data": data}}
        plain = "image/jpeg" if "jp" in media_type else "image/png"
        assert sent(user(part))[0]["parts"][0]["inlineData"]["mimeType"] == plain
        assert changes(model({"text": "a"}), user(part), of=3) == [
            ("FIELD_CHANGED", "inlineData.mimeType")
        ]

    @pytest.mark.parametrize("uri", ["http://e.com/a", "file:///a", "", "sessiond"])
    def test_an_address_that_the_api_refuses_is_told(self, uri: str) -> None:
        part = {"fileData": {"mimeType": "video/mp4", "fileUri": uri}}
        assert "not sent" in json.dumps(sent(user(part)))

    @pytest.mark.parametrize("uri", ["https://youtu.be/x", "gs://a/b", "files/abc"])
    def test_an_address_that_it_accepts_is_unchanged(self, uri: str) -> None:
        file = {"mimeType": "video/mp4", "fileUri": uri, "displayName": "a"}
        assert is_unchanged(model({"text": "a"}), user({"fileData": file}), of=3)

    @pytest.mark.parametrize("data", ["not base64!", "", None, 5])
    def test_content_that_is_none_is_told(self, data: Any) -> None:
        part = {"inlineData": {"mimeType": "image/png", "data": data}}
        assert "not sent" in json.dumps(sent(user(part)))

    @everywhere
    def test_assets_within_results_are_sent(self, name: str) -> None:
        blob = {"mimeType": "image/png", "data": f"sessiond-asset:{KNOWN_ASSET}"}
        result = response(parts=[{"inlineData": blob}])
        text = text_of(name, user({"text": "q"}), model(call()), user(result))
        assert "sessiond-asset" not in text
        assert (PNG in text) == (name != "deepseek")

    @pytest.mark.parametrize(
        "part",
        [
            {"inlineData": {"mimeType": "image/png", "data": f"sessiond-asset:{MISSING_ASSET}"}},
            {"inlineData": {"mimeType": "image/tiff", "data": "AAAA"}},
            {"fileData": {"mimeType": "image/png", "fileUri": "http://e.com/a"}},
            {"text": "a note"},
        ],
    )
    def test_parts_of_results_that_cannot_be_sent_are_told(self, part: JSON) -> None:
        values = [model(call() | SIGNED), user(response(parts=[part]))]
        text = json.dumps(sent(user({"text": "q"}), *values))
        assert "not sent" in text or "a note" in text
        assert changes(*values, of=3)


class TestSignatures:
    """Thought signatures, which the API requires in the current turn."""

    def test_an_unsigned_call_is_signed_in_every_turn(self) -> None:
        values: list[JSON] = [USER, calls("c"), tool("c")]
        first = sent(*values)
        later = sent(*values, {"role": "assistant", "content": "a"}, PROMPT)
        assert later[: len(first)] == first
        assert first[1]["parts"][0]["thoughtSignature"] == NO_SIGNATURE

    def test_its_own_too(self) -> None:
        values = [
            user({"text": "q"}),
            model({"text": "a"}, call(), call()),
            user(*[response()] * 2),
        ]
        first = sent(*values)
        later = sent(*values, model({"text": "a"}), user({"text": "and?"}))
        assert later[: len(first)] == first
        assert ["thoughtSignature" in part for part in first[1]["parts"]] == [False, True, False]
        assert changes(*values[1:]) == [("FIELD_CHANGED", "thoughtSignature")]

    @pytest.mark.parametrize("signature", ["not base64!", "ä", "", 5, ["x"]])
    def test_what_is_none_does_not_end_its_session(self, signature: Any) -> None:
        signed = {"thoughtSignature": signature}
        message = as_message(model({"text": "a"} | signed, call() | signed), FORMAT_GEMINI)
        _, body = GEMINI.send(history(user({"text": "q"}), message, user(response())))
        parts = body["contents"][1]["parts"]
        assert [part.get("thoughtSignature") for part in parts] == [None, NO_SIGNATURE]

    @pytest.mark.parametrize("thought", [{}, {"thought": True}])
    def test_a_part_that_is_only_a_signature_is_kept(self, thought: JSON) -> None:
        answer = model({"text": "a"}, {"text": "", "thoughtSignature": "-__-"} | thought)
        assert is_unchanged(answer, user({"text": "and?"}))


class TestParts:
    """Parts that are neither text nor files."""

    def test_a_call_within_a_thought_is_a_call(self) -> None:
        values = [model(call() | SIGNED | {"thought": True}), user(response())]
        assert is_unchanged(*values)
        assert "look_up" in text_of("openai", user({"text": "q"}), *values)

    @pytest.mark.parametrize("key", ["tool_call", "toolCall"])
    def test_calls_of_its_own_tools_are_unchanged(self, key: str) -> None:
        made = {key: {"id": "t", "toolType": "GOOGLE_SEARCH_WEB", "args": {"q": "Ulm"}}}
        got = {"toolResponse": {"id": "t", "toolType": "GOOGLE_SEARCH_WEB", "response": {"n": 1}}}
        assert is_unchanged(model(made, got, {"text": "a"}), user({"text": "and?"}))
        text = text_of("openai", user({"text": "q"}), model(made, got))
        assert "Ulm" in text

    @pytest.mark.parametrize(
        "part",
        [
            {"executableCode": {"language": "PYTHON", "code": "print(7)"}},
            {"toolCall": {"id": "t", "toolType": "URL_CONTEXT", "args": {"print(7)": 1}}},
        ],
    )
    def test_the_users_are_sent_as_text(self, part: JSON) -> None:
        assert "print(7)" in json.dumps(sent(user(part)))

    def test_a_thought_that_is_a_picture_is_unchanged(self) -> None:
        picture = {"inlineData": {"mimeType": "image/png", "data": PNG}, "thought": True}
        assert is_unchanged(model(picture | SIGNED, {"text": "a"}), user({"text": "and?"}))
        assert PNG not in text_of("openai", user({"text": "q"}), model(picture, {"text": "a"}))

    def test_one_of_another_spelling_is_fitted(self) -> None:
        picture = {"inlineData": {"mimeType": "image/jpg", "data": "/9j/4AAQ"}, "thought": True}
        found = changes(model(picture, {"text": "a"}), user({"text": "and?"}))
        assert found == [("FIELD_CHANGED", "inlineData.mimeType")]

    @pytest.mark.parametrize(
        "extra",
        [
            {"partMetadata": {"a": 1}},
            {"part_metadata": None, "thought": None, "video_metadata": None, "inline_data": None},
        ],
    )
    def test_known_keys_are_kept(self, extra: JSON) -> None:
        assert is_unchanged(model({"text": "a"} | extra), user({"text": "and?"}))

    def test_nulls_of_keys_that_the_api_does_not_know_are_reported_once(self) -> None:
        extra = dict.fromkeys(("audio_transcription", "speech_metadata"))
        found = changes(model({"text": "a"} | extra), user({"text": "and?"}))
        assert found == [("FIELD_REMOVED", "fields that are null")]

    def test_content_that_is_nested_too_deeply_for_the_api_is_not_sent(self) -> None:
        deep: Any = "x"
        for _ in range(120):
            deep = [deep]
        text = json.dumps(sent(user({"text": "a", "partMetadata": {"deep": deep}})))
        assert "deep" not in text

    @pytest.mark.parametrize("length", [64, 65, 128])
    def test_long_names_are_unchanged(self, length: int) -> None:
        name = "n" * length
        assert is_unchanged(model(call(name=name) | SIGNED), user(response(name=name)))

    def test_a_name_that_begins_with_a_digit_is_reported(self) -> None:
        found = changes(model(call(name="1st") | SIGNED), user(response(name="1st")))
        assert found == [("NAME_CHANGED", "1st")]

    @pytest.mark.parametrize("value", [None, [1, "found"], "found", 5, {"n": 10**400}])
    def test_a_response_of_any_shape_is_sent(self, value: Any) -> None:
        contents = sent(user({"text": "q"}), model(call() | SIGNED), user(response(response=value)))
        assert isinstance(contents[2]["parts"][0]["functionResponse"]["response"], dict)


class TestBlankPrompts:
    """Prompts without text."""

    @pytest.mark.parametrize("parts", [[], [{"text": " "}], [{"text": ""}, {"text": "\n"}]])
    def test_they_are_told_in_every_turn(self, parts: list[JSON]) -> None:
        values = [user({"text": "q"}), model({"text": "a"}), user(*parts)]
        first = sent(*values)
        assert first[-1]["parts"] == [{"text": BLANK}]
        assert sent(*values, model({"text": "a"}), user({"text": "b"}))[: len(first)] == first


class TestInstructions:
    """Instructions among the options."""

    @pytest.mark.parametrize("key", ["systemInstruction", "system_instruction"])
    @pytest.mark.parametrize(
        "value",
        [
            "Be brief.",
            ["Be brief."],
            {"text": "Be brief."},
            {"parts": {"text": "Be brief."}},
            {"role": "system", "parts": ["Be brief."]},
            [{"parts": [{"text": "Be brief."}]}],
        ],
    )
    def test_they_are_sent_in_every_form(self, key: str, value: Any) -> None:
        _, body = GEMINI.send(history(USER), {key: value})
        parts = [{"text": "Be brief."}, {"text": "Be kind."}]
        assert body["systemInstruction"] == {"parts": parts}

    def test_of_both_spellings_none_is_lost(self) -> None:
        options = {"systemInstruction": "a", "system_instruction": ["b"]}
        _, body = GEMINI.send(history(USER), options)
        assert [part["text"] for part in body["systemInstruction"]["parts"]] == [
            "a",
            "b",
            "Be kind.",
        ]


@pytest.mark.parametrize("role", [{}, {"role": None}])
def test_a_content_without_a_role_is_sent_as_the_users(role: dict[str, None]) -> None:
    said: dict[str, Any] = {**role, "parts": [{"text": "b"}]}
    request, body = GEMINI.send(history(user({"text": "q"}), model({"text": "a"}), said))
    assert body["contents"][2] == {"role": "user", "parts": [{"text": "b"}]}
    assert [(c.seq, c.kind, c.detail) for c in request.report] == [
        (3, ChangeKind.FIELD_CHANGED, "role")
    ]


def test_messages_of_one_role_are_reported_once_each() -> None:
    messages = [as_message(USER, FORMAT_OPENAI) for _ in range(2_000)]
    for seq, message in enumerate(messages, 1):
        message.seq = seq
    request, body = GEMINI.send(messages)
    assert len(body["contents"]) == 1
    assert len(request.report) == 2_000
    assert {change.kind for change in request.report} == {ChangeKind.MESSAGES_MERGED}
