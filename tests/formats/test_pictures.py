"""The dimensions of pictures, and pictures that Anthropic refuses because of their dimensions."""

import base64
import json
import struct

import pytest

from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC
from sessiond_server.formats.pictures import dimensions
from sessiond_server.formats.report import ChangeKind

from .dialects import DIALECTS
from .histories import PNG, as_message
from .native_messages import blocks, history


def png(width: int, height: int) -> bytes:
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR"
    return header + struct.pack(">II", width, height) + b"\x08\x06\x00\x00\x00"


def jpeg(width: int, height: int, preview: int = 20) -> bytes:
    exif = b"\xff\xe1" + struct.pack(">H", preview + 2) + b"x" * preview
    table = b"\xff\xc4" + struct.pack(">H", 4) + b"ab"
    frame = b"\xff\xc2" + struct.pack(">HBHH", 17, 8, height, width)
    return b"\xff\xd8" + exif + b"\xff" + table + frame


def webp(kind: bytes, rest: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 100) + b"WEBP" + kind + struct.pack("<I", 50) + rest


@pytest.mark.parametrize(
    "content",
    [
        png(3, 9000),
        jpeg(3, 9000),
        jpeg(3, 9000, preview=60_000),
        b"GIF89a" + struct.pack("<HH", 3, 9000),
        webp(b"VP8 ", b"\0" * 6 + struct.pack("<HH", 3, 9000)),
        webp(b"VP8L", b"\x2f" + struct.pack("<I", 2 | 8999 << 14)),
        webp(b"VP8X", b"\0" * 4 + (2).to_bytes(3, "little") + (8999).to_bytes(3, "little")),
    ],
)
def test_dimensions_are_read_from_the_header(content: bytes) -> None:
    assert dimensions(content) == (3, 9000)
    data = base64.b64encode(content).decode()
    source = {"type": "base64", "media_type": "image/png", "data": data}
    message = as_message(blocks("user", {"type": "image", "source": source}), FORMAT_ANTHROPIC)
    request, body = DIALECTS["anthropic"].send(history(message))
    assert "8,000 pixels" in json.dumps(body)
    assert request.report.of(1) == [ChangeKind.FILE_REPLACED]


@pytest.mark.parametrize("whole", [png(3, 9), jpeg(3, 9), webp(b"VP8X", b"\0" * 10)])
def test_a_header_that_is_cut_off_has_none(whole: bytes) -> None:
    for end in range(len(whole) - 6):
        assert dimensions(whole[:end]) is None


def test_a_picture_within_the_limit_is_sent() -> None:
    assert dimensions(base64.b64decode(PNG)) == (1, 1)
    assert dimensions(png(8000, 8000)) == (8000, 8000)
    data = base64.b64encode(png(8000, 8000)).decode()
    source = {"type": "base64", "media_type": "image/png", "data": data}
    message = as_message(blocks("user", {"type": "image", "source": source}), FORMAT_ANTHROPIC)
    assert not DIALECTS["anthropic"].send(history(message))[0].report
