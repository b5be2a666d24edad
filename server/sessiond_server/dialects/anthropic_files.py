"""The files in requests of Anthropic's Messages API: which are sent, and as what."""

import base64
from collections.abc import Iterator, Sequence

from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC
from sessiond_server.dialects.request import IMAGES, SYSTEM_ROLES, TEXT_TYPES, Steps
from sessiond_server.formats.files import media_type_of, plain_media_type
from sessiond_server.formats.pairing import Results, Said, as_stored
from sessiond_server.formats.pictures import HEADER_BYTES, dimensions
from sessiond_server.formats.pieces import JSON, Entry, Media, Piece, Text

MAX_FILES = 100
# If there are too many files, the oldest are left out in steps of this number. Successive requests
# therefore mostly begin alike, and the API can use its cache of the earlier request.
OMITTED_AT_ONCE = 20
# The API counts the characters of the base64.
MAX_IMAGE_CHARACTERS = 5 * 1024**2
# Width and height of an image.
MAX_PIXELS = 8000
PDF = "application/pdf"
# The header of a PDF must be within this number of bytes.
PDF_BYTES = 1023
TOO_MANY = f"a request may have {MAX_FILES} files, and newer ones are sent"
TOO_LARGE = "an image may have 5 MiB in base64"
TOO_WIDE = f"an image may have {MAX_PIXELS:,} pixels on each side"
NOT_HTTPS = "the model's provider fetches files by https only"
NOT_BASE64 = "its content is not valid base64"
OTHER_CONTENT = "its content is not of its type"


class AnthropicFiles:
    """Decides for each file of a history whether it is sent.

    Args:
        steps: the history.
    """

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._surplus: set[int] = set()
        files = [*self._files()]
        if (excess := len(files) - MAX_FILES) > 0:
            self._surplus = set(files[: -(-excess // OMITTED_AT_ONCE) * OMITTED_AT_ONCE])

    def is_surplus(self, part: Piece | JSON) -> bool:
        """Whether a file, or a document with several parts, is left out to keep to MAX_FILES."""
        return id(part) in self._surplus

    def block(self, piece: Media, own: JSON | None) -> tuple[JSON | None, str]:
        """Return the block of a file.

        Args:
            piece: the file.
            own: the file's block in the stored message, if the message is in the API's format.

        Returns:
            The block, with its type and its content only, and "". If the file is not sent, None
            and the reason. The reason is "" if the API has no block for such a file.
        """
        if self.is_surplus(piece):
            return None, TOO_MANY
        if piece.file_id:
            return self._uploaded(piece.file_id, own), ""
        media_type = self._media_type(piece)
        is_image = media_type in IMAGES or (not media_type and piece.kind == "image")
        is_pdf = media_type == PDF or (not media_type and own is not None and piece.kind == "file")
        kind = "image" if is_image else "document"
        if not (is_image or is_pdf):
            return self._text(piece, media_type, own), ""
        if piece.uri:
            if not piece.uri.startswith("https://"):
                return None, NOT_HTTPS
            return {"type": kind, "source": {"type": "url", "url": piece.uri}}, ""
        media_type = media_type or ("image/png" if is_image else PDF)
        if problem := self._problem(piece, media_type):
            return None, problem
        source = {
            "type": "base64",
            "media_type": media_type,
            "data": self._steps.content_of(piece),
        }
        return {"type": kind, "source": source}, ""

    def _problem(self, piece: Media, media_type: str) -> str:
        """Return why the content of a file is not sent. "" = it is sent."""
        asset = self._steps.assets.get(piece.asset_id)
        if piece.asset_id:
            if not asset:
                return "the asset does not exist"
            length = 4 * -(-asset.size_bytes // 3)
        elif not piece.data:
            return NOT_BASE64
        else:
            length = len(piece.data)
            first = base64.b64decode(piece.data[: 4 * -(-PDF_BYTES // 3)])
            shown = media_type_of(first, "")
            if shown != media_type and not (media_type == PDF and b"%PDF-" in first):
                return OTHER_CONTENT
        if media_type in IMAGES and length > MAX_IMAGE_CHARACTERS:
            return TOO_LARGE
        return TOO_WIDE if piece.data and self._is_too_wide(piece.data) else ""

    @staticmethod
    def _is_too_wide(data: str) -> bool:
        header = base64.b64decode(data[: 4 * -(-HEADER_BYTES // 3)])
        return max(dimensions(header) or (0, 0)) > MAX_PIXELS

    @staticmethod
    def _uploaded(file_id: str, own: JSON | None) -> JSON | None:
        """Return the block of a file that was uploaded to the provider."""
        kind = own.get("type") if own else None
        if kind == "container_upload":
            return {"type": kind, "file_id": file_id}
        if kind in ("image", "document"):
            return {"type": kind, "source": {"type": "file", "file_id": file_id}}
        return None

    def _text(self, piece: Media, media_type: str, own: JSON | None) -> JSON | None:
        """Return the block of a text file that is stored as a document in the API's own format."""
        if not (own and own.get("type") == "document" and media_type.startswith(TEXT_TYPES)):
            return None
        text = self._steps.text_of(piece)
        return text_document(text) if text else None

    def _media_type(self, piece: Media) -> str:
        """Return the type that the content of a file shows, or else the file's declared type."""
        given = self._steps.media_type(piece)
        asset = self._steps.assets.get(piece.asset_id)
        is_shown = asset and (given in IMAGES or given == PDF)
        return (plain_media_type(asset.media_type) if asset and is_shown else "") or given

    def _files(self) -> Iterator[int]:
        """Yield the id() of each file of the history, oldest first."""
        for step in self._steps.steps:
            match step:
                case Said() if step.role not in SYSTEM_ROLES:
                    yield from self._files_of(step.entry, step.pieces)
                case Results():
                    for paired in as_stored(step.calls):
                        if paired.result and paired.result_entry:
                            yield from self._files_of(paired.result_entry, paired.result.pieces)

    def _files_of(self, entry: Entry, pieces: Sequence[Piece]) -> Iterator[int]:
        is_own = entry.format == FORMAT_ANTHROPIC
        container: JSON | None = None
        for piece in pieces:
            if not isinstance(piece, Text | Media):
                continue
            own = piece.source if is_own else None
            if is_own and piece.container is not None and piece.container is not container:
                yield id(piece.container)
            container = piece.container
            if isinstance(piece, Media):
                is_file = self.block(piece, own)[0] is not None
            else:
                is_file = own is not None and own.get("type") == "document"
            if is_file:
                yield id(piece)


def text_document(text: str) -> JSON:
    """Return the block of a document that consists of text."""
    source = {"type": "text", "media_type": "text/plain", "data": text}
    return {"type": "document", "source": source}
