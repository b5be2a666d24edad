"""The dimensions of pictures, read from their first bytes."""

import struct

# Number of bytes that dimensions() needs at most. A JPEG may begin with a large preview.
HEADER_BYTES = 192 * 1024
# Markers of JPEG segments that hold the dimensions, and of those that have no length.
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_BARE = {0x01, *range(0xD0, 0xD9)}


def dimensions(content: bytes) -> tuple[int, int] | None:
    """Return the width and the height of a picture in pixels. None = unknown.

    Args:
        content: the first HEADER_BYTES of a PNG, GIF, WebP or JPEG.
    """
    try:
        if content.startswith(b"\x89PNG\r\n\x1a\n") and content[12:16] == b"IHDR":
            width, height = struct.unpack_from(">II", content, 16)
        elif content[:6] in (b"GIF87a", b"GIF89a"):
            width, height = struct.unpack_from("<HH", content, 6)
        elif content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            width, height = _webp(content)
        elif content.startswith(b"\xff\xd8"):
            width, height = _jpeg(content)
        else:
            return None
    except (struct.error, IndexError):
        return None
    return width, height


def _webp(content: bytes) -> tuple[int, int]:
    match content[12:16]:
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", content, 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            [bits] = struct.unpack_from("<I", content, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X" if len(content) >= 30:
            width, height = content[24:27], content[27:30]
            return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
        case _:
            raise IndexError


def _jpeg(content: bytes) -> tuple[int, int]:
    place = 2
    while True:
        marker = content[place + 1]
        if content[place] != 0xFF or marker == 0xFF:
            place += 1
        elif marker in _FRAMES:
            height, width = struct.unpack_from(">HH", content, place + 5)
            return width, height
        elif marker in _BARE:
            place += 2
        else:
            [length] = struct.unpack_from(">H", content, place + 2)
            place += 2 + length
