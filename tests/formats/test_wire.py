"""The parts of a request: files, JSON text, and strings with the contents of assets."""

import base64
import json
from typing import Any

import pytest

from sessiond.v1.message_pb2 import FORMAT_OPENAI, ROLE_USER, Blob, Message, Part, Parts
from sessiond_server.formats.files import at_url, inline, plain_base64, plain_media_type
from sessiond_server.formats.parsing import has_duplicate_keys, parse
from sessiond_server.formats.read import read
from sessiond_server.formats.report import ChangeKind
from sessiond_server.formats.wire import AssetInfo, AssetString, JoinedString, encode, join

from .dialects import DIALECTS
from .histories import PNG, as_message

ODD_BYTES = b"\xfb\xff\xfe\x01"
everywhere = pytest.mark.parametrize("name", DIALECTS)


class TestBase64:
    """Base64 in the spellings in which SDKs write it."""

    @pytest.mark.parametrize(
        "spelling",
        [
            "+//+AQ==",
            "-__-AQ==",
            "-__-AQ",
            "+//+\nAQ==\n",
            " -__- AQ= ",
            "data:image/png;base64,+//+AQ==",
        ],
    )
    def test_every_spelling_becomes_the_standard_one(self, spelling: str) -> None:
        media = inline("image", spelling, media_type="image/png", name="", source={})
        assert base64.b64decode(media.data, validate=True) == ODD_BYTES

    @pytest.mark.parametrize(
        "url", ["data:image/png;base64,-__-AQ", "data:image/png;base64,%2B%2F%2F%2BAQ%3D%3D"]
    )
    def test_data_urls_too(self, url: str) -> None:
        media = at_url("image", url, media_type="", name="", source={})
        assert (media.media_type, base64.b64decode(media.data)) == ("image/png", ODD_BYTES)

    def test_bits_that_mean_nothing_are_none(self) -> None:
        assert plain_base64("c2l=") == "c2k="

    @pytest.mark.parametrize("text", ["ä", "a", "a.b", "====x", "\ud83d"])
    def test_other_text_is_no_content(self, text: str) -> None:
        assert plain_base64(text) == ""

    @everywhere
    def test_a_file_that_is_no_base64_does_not_end_its_session(self, name: str) -> None:
        url = "data:image/png;base64,not base64!"
        part = {"type": "image_url", "image_url": {"url": url}}
        message = as_message({"role": "user", "content": [part]}, FORMAT_OPENAI)
        message.seq = 1
        request, body = DIALECTS[name].send([message])
        assert "not sent" in json.dumps(body)
        assert ChangeKind.FILE_REPLACED in request.report.of(1)


class TestMediaTypes:
    """Media types in the spellings of callers."""

    @pytest.mark.parametrize(
        ("given", "plain"),
        [
            ("image/jpg", "image/jpeg"),
            ("image/PNG", "image/png"),
            ("Image/JPEG; q=1", "image/jpeg"),
            ("audio/x-wav", "audio/wav"),
            ("application/pdf", "application/pdf"),
            ("", ""),
        ],
    )
    def test_each_has_one_spelling(self, given: str, plain: str) -> None:
        assert plain_media_type(given) == plain
        parts = Parts(parts=[Part(image=Blob(media_type=given, uri="https://e.com/a"))])
        (piece,) = read(Message(role=ROLE_USER, parts=parts)).pieces
        assert piece.media_type == plain  # type: ignore[union-attr]

    @everywhere
    @pytest.mark.parametrize("given", ["image/jpg", "image/PNG", "application/octet-stream"])
    def test_a_picture_of_any_spelling_is_sent(self, name: str, given: str) -> None:
        part = {"type": "image_url", "image_url": {"url": f"data:{given};base64,{PNG}"}}
        _, body = DIALECTS[name].send(
            [as_message({"role": "user", "content": [part]}, FORMAT_OPENAI)]
        )
        assert (PNG in json.dumps(body)) == (name != "deepseek")

    @everywhere
    def test_a_drawing_in_xml_is_sent_as_text(self, name: str) -> None:
        drawing = base64.b64encode(b"<svg>a circle</svg>").decode()
        part = {"type": "image_url", "image_url": {"url": f"data:image/svg+xml;base64,{drawing}"}}
        _, body = DIALECTS[name].send(
            [as_message({"role": "user", "content": [part]}, FORMAT_OPENAI)]
        )
        assert "<svg>a circle</svg>" in json.dumps(body)


class TestJson:
    """JSON that parsers read in different ways."""

    @pytest.mark.parametrize("text", ['{"a": NaN}', "[Infinity]", "-Infinity", "1e400"])
    def test_what_no_json_can_carry_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="no number"):
            parse(text)

    @everywhere
    @pytest.mark.parametrize(
        "arguments",
        ['{"n": NaN}', '{"n": 1e999}', '{"n": 1, "n": 2}', "[" * 9_000 + "]" * 9_000],
    )
    def test_arguments_that_no_json_can_carry_are_sent_as_text(
        self, name: str, arguments: str
    ) -> None:
        function = {"name": "f", "arguments": arguments}
        call = {"id": "c", "type": "function", "function": function}
        value = {"role": "assistant", "content": None, "tool_calls": [call]}
        _, body = DIALECTS[name].send([as_message(value, FORMAT_OPENAI)])
        assert json.dumps(arguments)[1:-1] in json.dumps(body)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ('{"a": 1, "a": 2}', True),
            ('{"a": [{"b": 1, "c": {"x": 1, "x" : 1}}]}', True),
            ('{"a\\\\": 1, "a\\\\": 1}', True),
            ('{"a": {"a": 1}, "b": "\\"a\\": 1, \\"a\\": 2"}', False),
            ('{"a": ":", "b": [": "]}', False),
        ],
    )
    def test_a_key_that_occurs_twice_is_found(self, text: str, expected: bool) -> None:
        assert has_duplicate_keys(text, json.loads(text)) is expected

    @everywhere
    def test_a_message_with_such_keys_is_sent_with_one_of_each(self, name: str) -> None:
        raw = '{"role": "user", "content": "first", "content": "second", "parts": [{"text": "p"}]}'
        for number in (FORMAT_OPENAI, 2, 3):
            value = json.loads(raw)
            message = as_message(value, number)
            message.json, message.seq = raw, 1
            request, _ = DIALECTS[name].send([message])
            pieces = encode(request.body).pieces
            assert b"first" not in b"".join(piece for piece in pieces if isinstance(piece, bytes))
            assert ChangeKind.FIELD_CHANGED in request.report.of(1)


class TestJoinedStrings:
    """Strings that consist of texts and of the contents of assets."""

    @staticmethod
    def _encoded(value: Any) -> Any:
        pieces = encode({"a": value}).pieces
        content = b"".join(
            p if isinstance(p, bytes) else b"<%b>" % p.asset_id.encode() for p in pieces
        )
        return json.loads(content)["a"]

    def test_assets_keep_their_places(self) -> None:
        first, second = AssetString("1", is_text=True), AssetString("2", prefix="p\n", is_text=True)
        joined = join("\n", ['a"\ud83d', first, second, "\0"])
        assert isinstance(joined, JoinedString)
        assert self._encoded(joined) == 'a"\ufffd\n<1>\np\n<2>\n\0'
        assert self._encoded(join("", ["[", joined, "]"])) == '[a"\ufffd\n<1>\np\n<2>\n\0]'
        assert self._encoded([join(",", [first]), first]) == ["<1>", "<1>"]

    def test_text_alone_stays_text(self) -> None:
        assert type(join(", ", ["a", "b"])) is str

    def test_the_size_is_that_of_the_content(self) -> None:
        assets = {"1": AssetInfo("", 5)}
        for value in (AssetString("1"), AssetString("1", is_text=True)):
            request = encode({"a": join("-", ["x", value])})
            assert request.size_bytes(assets) == len('{"a":"x-"}') + (5 if value.is_text else 8)
