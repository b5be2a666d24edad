"""Files for Anthropic: sent if the API accepts them, else described in request and report."""

import base64
import json
from typing import Any, ClassVar

import pytest

from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC, FORMAT_OPENAI, Message
from sessiond_server.dialects.anthropic import fit
from sessiond_server.dialects.anthropic_files import MAX_FILES, MAX_IMAGE_CHARACTERS
from sessiond_server.dialects.request import FittedRequest, History
from sessiond_server.formats.report import ChangeKind
from sessiond_server.formats.wire import AssetInfo

from .dialects import DIALECTS
from .histories import KNOWN_ASSET, MISSING_ASSET, PDF, PNG, as_message
from .native_messages import PROMPT, USER, blocks, history, result, tool, use

JSON = dict[str, Any]
JPEG = base64.b64encode(b"\xff\xd8\xff\xe0" + b"x" * 20).decode()
TEXT = base64.b64encode(b"# A title").decode()
LARGE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"x" * (MAX_IMAGE_CHARACTERS * 3 // 4)).decode()
DIALECT = DIALECTS["anthropic"]


def image(data: str = PNG, media_type: str = "image/png") -> JSON:
    source = {"type": "base64", "media_type": media_type, "data": data}
    return {"type": "image", "source": source}


def at(url: str) -> JSON:
    return {"type": "image", "source": {"type": "url", "url": url}}


def document(**source: Any) -> JSON:
    return {"type": "document", "source": source}


def sent(*content: JSON) -> tuple[list[JSON], list[ChangeKind]]:
    """Return the blocks that are sent for a user's message, and the changes."""
    message = as_message(blocks("user", *content), FORMAT_ANTHROPIC)
    request, body = DIALECT.send(history(message, PROMPT))
    found = body["messages"][0]["content"]
    assert isinstance(found, list)
    return found, request.report.of(1)


SPELLINGS = {
    "a type in capitals": (image(PNG, "image/PNG"), PNG, "image/png"),
    "image/jpg": (image(JPEG, "image/jpg"), JPEG, "image/jpeg"),
    "a type of another picture": (image(JPEG, "image/png"), JPEG, "image/jpeg"),
    "URL-safe base64": (image(JPEG.replace("/", "_").replace("+", "-")), JPEG, "image/jpeg"),
    "no padding": (image(PNG.rstrip("=")), PNG, "image/png"),
    "lines": (image(PNG[:30] + "\n" + PNG[30:]), PNG, "image/png"),
    "a data URL": (at(f"data:image/png;base64,{PNG}"), PNG, "image/png"),
}


@pytest.mark.parametrize("case", SPELLINGS)
def test_a_picture_is_sent_as_the_api_spells_it(case: str) -> None:
    block, data, media_type = SPELLINGS[case]
    [found], changes = sent(block)
    assert found["source"] == {"type": "base64", "media_type": media_type, "data": data}
    assert ChangeKind.FIELD_CHANGED in changes


NOT_SENT = {
    "no base64": image("not base64!"),
    "no picture": image(TEXT),
    "no content": image(""),
    "too large": image(LARGE),
    "by http": at("http://e.com/a.png"),
    "a file on a disk": at("file:///a.png"),
    "an asset that does not exist": at(f"sessiond-asset:{MISSING_ASSET}"),
    "a picture of another kind": image(TEXT, "image/tiff"),
    "a PDF that is none": document(type="base64", media_type="application/pdf", data=TEXT),
    "a source of another type": document(type="s3", url="s3://b/a"),
    "a source that is a number": {"type": "image", "source": None},
}


@pytest.mark.parametrize("case", NOT_SENT)
@pytest.mark.parametrize("place", ["message", "result", "document"])
def test_what_the_api_refuses_is_told(case: str, place: str) -> None:
    block = NOT_SENT[case]
    if place == "document" and block["type"] == "document":
        return
    content = {
        "message": blocks("user", block),
        "result": blocks("user", result("c", [block])),
        "document": blocks("user", document(type="content", content=[block])),
    }[place]
    message = as_message(content, FORMAT_ANTHROPIC)
    call = as_message(blocks("assistant", use("c")), FORMAT_ANTHROPIC)
    request, body = DIALECT.send(history(USER, call, message, PROMPT))
    assert "not sent" in json.dumps(body) or case in (
        "a source of another type",
        "a source that is a number",
    )
    assert {ChangeKind.FILE_REPLACED, ChangeKind.ITEM_REPLACED} & {*request.report.of(3)}


@pytest.mark.parametrize("kind", ["image", "document"])
def test_an_uploaded_file_is_sent_without_what_its_source_has_besides(kind: str) -> None:
    source = {"type": "file", "file_id": "file_1"}
    assert sent({"type": kind, "source": source}) == ([{"type": kind, "source": source}], [])
    found, changes = sent({"type": kind, "source": {**source, "caller": None}})
    assert found == [{"type": kind, "source": source}]
    assert changes == [ChangeKind.FIELD_REMOVED]


def test_the_content_of_an_asset_decides_over_the_stored_type() -> None:
    assets = {KNOWN_ASSET: AssetInfo("image/jpeg", 100)}
    message = as_message(blocks("user", image(f"sessiond-asset:{KNOWN_ASSET}")), FORMAT_ANTHROPIC)
    request = fit(History(history(message), assets=assets))
    assert request.body["messages"][0]["content"][0]["source"]["media_type"] == "image/jpeg"
    assert request.report.of(1) == [ChangeKind.FIELD_CHANGED]


def test_an_asset_that_is_too_large_is_told() -> None:
    assets = {KNOWN_ASSET: AssetInfo("image/png", MAX_IMAGE_CHARACTERS)}
    message = as_message(blocks("user", at(f"sessiond-asset:{KNOWN_ASSET}")), FORMAT_ANTHROPIC)
    request = fit(History(history(message), assets=assets))
    assert "5 MiB" in request.body["messages"][0]["content"][0]["text"]
    assert ChangeKind.FILE_REPLACED in request.report.of(1)


class TestTooMany:
    """The API accepts 100 files in a request."""

    @staticmethod
    def _request(count: int) -> FittedRequest:
        values = [as_message(blocks("user", image()), FORMAT_ANTHROPIC) for _ in range(count)]
        request, _ = DIALECT.send(history(*values))
        return request

    def test_all_of_a_hundred_are_sent(self) -> None:
        assert not self._request(MAX_FILES).report

    def test_the_oldest_are_told(self) -> None:
        request = self._request(MAX_FILES + 1)
        sent = [message["content"][0]["type"] for message in request.body["messages"]]
        assert sent == ["text"] * 20 + ["image"] * (MAX_FILES - 19)
        assert request.report.of(1) == [ChangeKind.FILE_REPLACED]
        assert not request.report.of(21)

    def test_the_beginning_changes_seldom(self) -> None:
        beginnings = {
            json.dumps(self._request(count).body["messages"][:60])
            for count in range(MAX_FILES + 1, MAX_FILES + 21)
        }
        assert len(beginnings) == 1

    def test_files_in_results_and_documents_count(self) -> None:
        pages = document(type="content", content=[image()] * 60)
        message = as_message(blocks("user", result("c", [image()] * 60), pages), FORMAT_ANTHROPIC)
        call = as_message(blocks("assistant", use("c")), FORMAT_ANTHROPIC)
        request, _ = DIALECT.send(history(USER, call, message))
        assert ChangeKind.FILE_REPLACED in request.report.of(3)


class TestDocuments:
    """Documents of text, and of texts and pictures."""

    @pytest.mark.parametrize("media_type", ["text/markdown", "text/plain", "application/json"])
    def test_text_in_base64_is_sent_as_text(self, media_type: str) -> None:
        block = document(type="base64", media_type=media_type, data=TEXT)
        kept = {"title": "t", "context": "c", "cache_control": {"type": "ephemeral"}}
        [found], changes = sent(block | kept)
        source = {"type": "text", "media_type": "text/plain", "data": "# A title"}
        assert found == {"type": "document", "source": source, **kept}
        assert ChangeKind.FIELD_CHANGED in changes

    def test_another_type_of_plain_text_is_sent_as_plain_text(self) -> None:
        block = document(type="text", media_type="text/markdown", data="# A title")
        [found], changes = sent(block)
        assert found["source"] == block["source"] | {"media_type": "text/plain"}
        assert changes == [ChangeKind.FIELD_CHANGED]

    @pytest.mark.parametrize("content", ["all text", [{"type": "text", "text": "a"}, image()]])
    def test_texts_and_pictures_are_unchanged(self, content: Any) -> None:
        block = document(type="content", content=content) | {"citations": {"enabled": True}}
        found, changes = sent(block)
        assert found == [block]
        assert not changes

    def test_its_assets_are_sent(self) -> None:
        block = document(type="content", content=[at(f"sessiond-asset:{KNOWN_ASSET}")])
        [found], _ = sent(block)
        assert found["source"]["content"][0]["source"]["data"] == PNG

    def test_a_document_in_a_result_keeps_its_assets(self) -> None:
        source = {
            "type": "base64",
            "media_type": "image/png",
            "data": f"sessiond-asset:{KNOWN_ASSET}",
        }
        answer = as_message(blocks("assistant", use("c")), FORMAT_ANTHROPIC)
        inner = document(type="content", content=[{"type": "image", "source": source}])
        message = as_message(blocks("user", result("c", [inner])), FORMAT_ANTHROPIC)
        _, body = DIALECT.send(history(USER, answer, message))
        [found] = body["messages"][2]["content"][0]["content"]
        assert found["source"]["content"][0]["source"]["data"] == PNG

    @pytest.mark.parametrize("name", ["openai", "gemini", "responses"])
    def test_its_pictures_reach_other_models(self, name: str) -> None:
        inner = [{"type": "text", "text": "page one"}, image()]
        message = as_message(
            blocks("user", document(type="content", content=inner) | {"title": "t"}),
            FORMAT_ANTHROPIC,
        )
        request, body = DIALECTS[name].send(history(message))
        assert "page one" in json.dumps(body)
        assert PNG in json.dumps(body)
        assert request.report.of(1) == [ChangeKind.FIELD_REMOVED]  # the title

    def test_a_fetched_document_keeps_its_asset(self) -> None:
        inner = document(type="base64", media_type="application/pdf", data=PDF)
        asset = document(
            type="base64", media_type="application/pdf", data=f"sessiond-asset:{KNOWN_ASSET}"
        )
        for block in (inner, asset):
            answer = blocks(
                "assistant",
                {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_fetch", "input": {}},
                {
                    "type": "web_fetch_tool_result",
                    "tool_use_id": "srvtoolu_1",
                    "content": {"type": "web_fetch_result", "url": "https://e", "content": block},
                },
            )
            assets = {KNOWN_ASSET: AssetInfo("application/pdf", 70)}
            messages = history(USER, as_message(answer, FORMAT_ANTHROPIC), PROMPT)
            request = fit(History(messages, assets=assets))
            assert request.body["messages"][1]["content"] == answer["content"]
            assert not request.report.of(2)


class TestTextAssets:
    """Text files that are assets are sent as their text."""

    BLOCK: ClassVar[JSON] = document(
        type="text", media_type="text/plain", data=f"sessiond-asset:{KNOWN_ASSET}"
    )

    def _body(self, *messages: JSON | Message) -> JSON:
        stored = history(*messages)
        assets = {KNOWN_ASSET: AssetInfo("text/plain", 7)}
        _, body = type(DIALECT)(
            lambda h: fit(History(h.messages, h.system_prompt, h.options, assets)),
            DIALECT.validate,
            "anthropic",
            DIALECT.is_own,
            options=DIALECT.options,
        ).send(stored)
        return body

    def test_in_a_message(self) -> None:
        body = self._body(as_message(blocks("user", self.BLOCK), FORMAT_ANTHROPIC))
        assert body["messages"][0]["content"][0]["source"]["data"] == "a text"

    @pytest.mark.parametrize("place", [0, 2])
    def test_in_instructions(self, place: int) -> None:
        values: list[JSON | Message] = [USER, {"role": "assistant", "content": "a"}, PROMPT]
        system = as_message({"role": "system", "content": [self.BLOCK]}, FORMAT_ANTHROPIC)
        values.insert(place, system)
        text = json.dumps(self._body(*values))
        assert "a text" in text
        assert KNOWN_ASSET not in text


def test_text_that_is_not_utf8_is_reported() -> None:
    data = base64.b64encode(b"caf\xe9").decode()
    _, changes = sent(document(type="base64", media_type="text/plain", data=data))
    assert ChangeKind.TEXT_REPAIRED in changes or ChangeKind.FIELD_CHANGED in changes


def test_a_picture_of_openai_follows_the_same_rules() -> None:
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{LARGE}"}}
    message = as_message({"role": "user", "content": [part]}, FORMAT_OPENAI)
    request, body = DIALECT.send(history(message))
    assert "5 MiB" in json.dumps(body)
    assert request.report.of(1) == [ChangeKind.FILE_REPLACED]


def test_a_result_with_a_picture_of_another_format_keeps_it() -> None:
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    made = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    answer = {"role": "assistant", "content": None, "tool_calls": [made]}
    _, body = DIALECT.send(history(USER, answer, tool("c", [part])), dict(DIALECT.options))
    assert body["messages"][2]["content"][0]["content"] == [image()]


@pytest.mark.parametrize("name", DIALECTS)
def test_the_title_of_a_picture_is_sent_or_reported(name: str) -> None:
    picture = document(type="base64", media_type="image/png", data=PNG) | {"title": "a title"}
    message = as_message(blocks("user", picture), FORMAT_ANTHROPIC)
    request, body = DIALECTS[name].send(history(message))
    assert "a title" in json.dumps(body) or request.report.of(1)
