"""Files inside messages become assets: their places, and the parts that stay unchanged."""

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond import InvalidField, NewMessage
from sessiond._protocol.file_places import file_places
from sessiond._requests.inline_files import MIN_BYTES, extracted, least_bytes
from sessiond._requests.input import to_proto
from sessiond.v1.message_pb2 import Blob, Part, ToolResult
from sessiond_server.formats.asset_places import references

from .conftest import Colour, FakeServer

CONTENT = bytes(range(256)) * 8
BASE64 = base64.b64encode(CONTENT).decode()
URL = f"data:image/png;base64,{BASE64}"
URI = f"sessiond-asset:{hashlib.sha256(CONTENT).hexdigest()}"
SMALL = "data:image/png;base64,AAAA"


def of(part: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": "x"}, part]}


def source(data: str, kind: str = "base64") -> dict[str, Any]:
    key = "url" if kind == "url" else "data"
    return {"type": kind, "media_type": "image/png", key: data}


def gemini(part: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "parts": [{"text": "x"}, part]}


IMAGE_PART = {"type": "input_image", "image_url": "{}"}
SCREENSHOT = {"type": "computer_screenshot", "image_url": "{}"}
IMAGE_URL = {"type": "image_url", "image_url": {"url": "{}", "detail": "low"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "{}", "format": "mp3"}}
FILE = {"type": "file", "file": {"file_data": "{}", "filename": "a.pdf"}}
BLOCK = {"type": "image", "source": source("{}")}
BLOB = {"mimeType": "image/png", "data": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": [IMAGE_PART]}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": [BLOCK]}

# A message with {} for the file, the text of the file, and the asset's media type.
PLACES: list[tuple[Any, str, str]] = [
    (of(IMAGE_URL), URL, "image/png"),
    (of({"type": "image_url", "image_url": "{}"}), URL, "image/png"),
    (of(IMAGE_PART), URL, "image/png"),
    (of(AUDIO), BASE64, "audio/mp3"),
    (of(FILE), BASE64, "application/pdf"),
    (of(FILE), URL, "image/png"),
    (of({"type": "input_file", "file_data": "{}", "filename": "a"}), URL, "image/png"),
    (of({"type": "input_file", "file_url": "{}"}), URL, "image/png"),
    (OUTPUT, URL, "image/png"),
    ({"type": "computer_call_output", "call_id": "c", "output": SCREENSHOT}, URL, "image/png"),
    ({"role": "assistant", "content": "x", "images": [IMAGE_URL]}, URL, "image/png"),
    ({"type": "image_generation_call", "id": "i", "result": "{}"}, BASE64, "image/png"),
    (of(BLOCK), BASE64, "image/png"),
    (of({"type": "document", "source": source("{}")}), BASE64, "image/png"),
    (gemini({"fileData": {"mimeType": "image/png", "fileUri": "{}"}}), URL, "image/png"),
    (of({"type": "image", "source": source("{}", "url")}), URL, "image/png"),
    (of(RESULT), BASE64, "image/png"),
    (
        of({"type": "document", "source": {"type": "content", "content": [BLOCK]}}),
        BASE64,
        "image/png",
    ),
    (gemini({"inlineData": BLOB}), BASE64, "image/png"),
    (gemini({"inline_data": {"mime_type": "image/png", "data": "{}"}}), BASE64, "image/png"),
    ({"role": "user", "parts": {"inlineData": {"data": "{}"}}}, BASE64, ""),
    (gemini({"inlineData": BLOB}), base64.urlsafe_b64encode(CONTENT).decode(), "image/png"),
    (gemini({"functionResponse": {"parts": [{"inlineData": BLOB}]}}), BASE64, "image/png"),
]


IMAGE_URL_OF_FILE = {"type": "image_url", "image_url": {"url": URL}}


def replaced(message: Any, text: str, *, spaces: bool = False) -> str:
    separators = (", ", " : ") if spaces else (",", ":")
    return json.dumps(message, separators=separators).replace("{}", text)


@pytest.mark.parametrize(("message", "text", "media_type"), PLACES)
@pytest.mark.parametrize("spaces", [False, True])
def test_a_file_in_any_place_becomes_a_reference_and_all_else_stays(
    message: Any, text: str, media_type: str, spaces: bool
) -> None:
    given = to_proto(replaced(message, text, spaces=spaces), None, "m")
    before = given.SerializeToString()
    result, files = extracted(given, 1000)
    assert result.json == replaced(message, URI, spaces=spaces)
    assert result.format == given.format
    assert [(file.content, file.media_type) for file in files] == [(CONTENT, media_type)]
    assert given.SerializeToString() == before
    # A second extraction finds nothing.
    assert extracted(result, 1) == (result, [])


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": URL},
        of({"type": "text", "text": URL}),
        of({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}),
        of({"type": "image_url", "image_url": {"url": URI}}),
        of({"type": "image_url", "image_url": {"url": SMALL}}),
        of({"type": "image_url", "image_url": {"url": "data:no comma" + "x" * 2000}}),
        of({"type": "image_url", "image_url": {"url": "data:," + "half \ud800" * 300}}),
        of({"type": "image", "source": source("no base64!" * 300)}),
        of({"type": "image", "source": {"type": "text", "data": BASE64}}),
        of({"type": "image", "source": {"type": ["base64"], "data": BASE64}}),
        of({"type": "image_url", "image_url": [URL]}),
        {"role": "assistant", "content": [{"type": "tool_use", "input": of({"image_url": URL})}]},
        {"role": "model", "parts": [{"functionCall": {"args": {"inlineData": {"data": BASE64}}}}]},
        gemini({"functionResponse": {"response": {"inlineData": {"data": BASE64}}}}),
        {"role": "user", "content": [{"type": "tool_result", "content": [IMAGE_URL_OF_FILE]}]},
        ["no object"],
    ],
)
def test_what_is_no_file_stays(message: Any) -> None:
    given = to_proto(json.dumps(message), "openai", "m")
    assert extracted(given, 1000) == (given, [])


@pytest.mark.parametrize("text", ["", "no JSON" * 500, "[" * 3000])
def test_text_that_is_no_json_is_left_to_the_server(text: str) -> None:
    given = to_proto(text, "openai", "m")
    assert extracted(given, 1000) == (given, [])


def test_the_same_file_twice_and_elsewhere_as_text() -> None:
    image = {"type": "image_url", "image_url": {"url": URL}}
    twice = f'{{"role":"user", "n":1.0e2, "content":[{json.dumps(image)}, {json.dumps(image)}]}}'
    result, files = extracted(to_proto(twice, None, "m"), 1000)
    assert result.json == twice.replace(URL, URI)
    assert len(files) == 2
    also = {"role": "user", "content": [image, {"type": "text", "text": URL}]}
    result, files = extracted(to_proto(also, None, "m"), 1000)
    assert json.loads(result.json)["content"][0]["image_url"]["url"] == URI
    assert json.loads(result.json)["content"][1]["text"] == URL


def test_escapes_and_other_spellings_of_data() -> None:
    svg = '<svg a="ü">' + "x" * 2000 + "</svg>"
    wrapped = "\n".join(BASE64[i : i + 76] for i in range(0, len(BASE64), 76))
    for text, content in (
        (f"data:image/svg+xml,{svg}", svg.encode()),
        (f"DATA:image/svg+xml;charset=utf-8;base64,{BASE64}", CONTENT),
        (f"data:image/svg+xml;base64,{wrapped}", CONTENT),
    ):
        message = of({"type": "image_url", "image_url": {"url": text}})
        for spelled in (json.dumps(message), json.dumps(message).replace("/", "\\/")):
            result, [file] = extracted(to_proto(spelled, None, "m"), 1000)
            assert (file.content, file.media_type) == (content, "image/svg+xml")
            url = json.loads(result.json)["content"][1]["image_url"]["url"]
            assert url == f"sessiond-asset:{file.asset_id}"


def test_typed_parts() -> None:
    blob = Blob(media_type="image/png", name="a.png", inline=CONTENT)
    parts = [
        Part(image=blob),
        Part(file=Blob(inline=b"small")),
        Part(tool_result=ToolResult(call_id="c", parts=[Part(file=blob)])),
    ]
    given = to_proto(NewMessage(parts=parts, role="user"), None, "m")
    result, files = extracted(given, len(CONTENT))
    assert [file.content for file in files] == [CONTENT, CONTENT]
    asset = Blob(media_type="image/png", name="a.png", asset_id=files[0].asset_id)
    assert result.parts.parts[0] == Part(image=asset)
    assert result.parts.parts[1] == parts[1]
    assert result.parts.parts[2].tool_result.parts[0] == Part(file=asset)
    assert given.parts.parts[0].image.inline == CONTENT


def test_the_size_from_which_on_files_are_taken_out() -> None:
    assert [least_bytes(value) for value in (False, None, True, 7)] == [None, None, MIN_BYTES, 7]
    given = to_proto(of({"type": "image_url", "image_url": {"url": URL}}), None, "m")
    assert extracted(given, len(CONTENT) + 1)[1] == []
    assert len(extracted(given, len(CONTENT))[1]) == 1
    for bad in (0, -1, 1.5, "yes", [True]):
        with pytest.raises(InvalidField, match="extract_files"):
            least_bytes(bad)


@pytest.mark.parametrize("bad", [0, "yes"])
async def test_a_bad_size_is_named_by_every_call(
    colour: Colour, server: FakeServer, session: Any, client: Any, bad: Any
) -> None:
    message = {"role": "user", "content": "x"}
    for call, arguments in (
        (session.store_message, (message,)),
        (session.store_messages, ([message],)),
        (session.import_messages, ([message],)),
        (session.send, ()),
        (client.sessions.import_session, ({"version": 1, "session": {}},)),
    ):
        with pytest.raises(InvalidField, match="extract_files"):
            await colour.call(call, *arguments, extract_files=bad)
    assert [call.method for call in server.received] == ["GetSession"]


KEYS = ("content", "output", "images", "parts", "type", "source", "data", "url", "image_url")
MORE = ("functionResponse", "inlineData", "file_data", "file_uri", "file", "file_url", "result")
TYPES = ("image_url", "input_image", "input_audio", "file", "input_file", "image_generation_call")
VALUES = st.recursive(
    st.sampled_from([URI, f"see {URI}", "x", None, 1, *TYPES]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS + MORE), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(KEYS + MORE), VALUES), st.sampled_from([1, 2, 3]))
def test_client_and_server_know_the_same_places(message: dict[str, Any], format: int) -> None:
    found = [holder[key] for holder, key in file_places(message, format) if holder[key] == URI]
    assert len(found) == len(list(references(message, format)))


@pytest.mark.parametrize(("message", "text", "_"), PLACES)
def test_the_server_resolves_each_place(message: Any, text: str, _: str) -> None:
    result, files = extracted(to_proto(replaced(message, text), None, "m"), 1000)
    resolved = [sha256.hex() for sha256, _ in references(json.loads(result.json), result.format)]
    assert resolved == [file.asset_id for file in files]
