"""The parts of Chat Completions requests: the content of messages, and their fields."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sessiond_server.dialects.openai_items import CACHE_MARKER, fit
from sessiond_server.dialects.request import (
    IMAGES,
    History,
    Steps,
    in_order,
    is_openai_file,
    is_web,
)
from sessiond_server.formats.pieces import (
    JSON,
    Content,
    Entry,
    Foreign,
    Media,
    Piece,
    Text,
    Thinking,
)
from sessiond_server.formats.report import ChangeKind

_SOUNDS = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}


MISTRAL_ID = 9


@dataclass(frozen=True, slots=True)
class ChatDialect:
    """The features that a server accepts.

    Attributes:
        reasoning_key: the key under which an assistant's reasoning is sent. "" = it is not sent.
        keep_unknown_keys: whether to send keys that OpenAI does not document.
        is_openai: whether the server is OpenAI's own, which accepts keys, roles and lists that
            other servers refuse.
        files: whether users' messages may contain anything but text.
        id_length: maximum length of the ids of calls, in characters. 9 = exactly 9 letters and
            digits, as Mistral requires.
    """

    reasoning_key: str = ""
    keep_unknown_keys: bool = False
    is_openai: bool = True
    files: bool = True
    id_length: int = 40


class ChatParts:
    """Writes the parts of messages.

    Args:
        history: the input of the request.
        dialect: the features that the server accepts.

    Raises:
        UnsendableHistory: if nothing of the history can be sent.
    """

    def __init__(self, history: History, dialect: ChatDialect) -> None:
        self._dialect = dialect
        is_mistral = dialect.id_length == MISTRAL_ID
        self._steps = Steps(
            history,
            id_pattern="[a-zA-Z0-9]" if is_mistral else r"[\x21-\x7e]",
            id_length=dialect.id_length,
            id_min_length=MISTRAL_ID if is_mistral else 1,
            name_pattern="[a-zA-Z0-9_-]",
            name_length=64,
        )
        self._lost = self._steps.lost

    def _content(
        self,
        entry: Entry,
        pieces: Sequence[Piece],
        *,
        is_instruction: bool = False,
        keep_list: bool = False,
    ) -> str | list[JSON]:
        """Return pieces as the content of a message that is not an answer of the model."""
        parts = [
            self._text_part(entry, piece) if is_instruction else self._part(entry, piece)
            for piece in pieces
            if isinstance(piece, Text | Media | Foreign)
        ]
        for piece in pieces:
            if isinstance(piece, Thinking):
                self._lost(entry, ChangeKind.THINKING_OMITTED)
        if not keep_list:
            parts = [part for part in parts if part.get("text") != ""]
            if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
                return parts[0]["text"]  # type: ignore[no-any-return]
        return parts

    def _text_part(self, entry: Entry, piece: Content) -> JSON:
        if isinstance(piece, Text):
            return self._own_part({"type": "text", "text": piece.text}, piece.source)
        return {"type": "text", "text": self._steps.as_text(entry, piece)}

    def _part(self, entry: Entry, piece: Content) -> JSON:
        if isinstance(piece, Media) and self._dialect.files:
            media_type = self._steps.media_type(piece)
            if piece.kind == "image" and (part := self._image(piece, media_type)):
                self._steps.name_lost(entry, piece)
                return part
            if not self._dialect.is_openai:
                return self._text_part(entry, piece)
            own = piece.source
            if (sound := _SOUNDS.get(media_type)) and (data := self._steps.content_of(piece)):
                self._steps.name_lost(entry, piece)
                audio = {"data": data, "format": sound}
                return self._own_part({"type": "input_audio", "input_audio": audio}, own)
            if own and own.get("type") == "file" and is_openai_file(piece.file_id):
                return self._own_part({"type": "file", "file": {"file_id": piece.file_id}}, own)
            is_pdf = media_type == "application/pdf"
            prefix = f"data:{media_type};base64,"
            if is_pdf and (data := self._steps.content_of(piece, prefix=prefix)):
                file = {"filename": piece.name or "file.pdf", "file_data": data}
                return self._own_part({"type": "file", "file": file}, own)
        return self._text_part(entry, piece)

    def _image(self, piece: Media, media_type: str) -> JSON | None:
        media_type = media_type or "image/png"
        if media_type not in IMAGES:
            return None
        url = self._steps.content_of(piece, prefix=f"data:{media_type};base64,")
        url = url or (piece.uri if is_web(piece.uri) else "")
        if not url:
            return None
        image: JSON = {"url": url}
        own = piece.source.get("image_url") if piece.source else None
        detail = own.get("detail") if isinstance(own, dict) else None
        if piece.source and piece.source.get("type") == "input_image":
            detail = piece.source.get("detail")
        if detail in ("auto", "low", "high") or (detail == "original" and self._dialect.is_openai):
            image["detail"] = detail
        return self._own_part({"type": "image_url", "image_url": image}, piece.source)

    def _is_sendable_file(self, piece: Content) -> bool:
        if not (isinstance(piece, Media) and self._dialect.files):
            return False
        media_type = self._steps.media_type(piece)
        if piece.kind == "image":
            return self._image(piece, media_type) is not None
        if not self._dialect.is_openai:
            return False
        has_content = bool(piece.data or piece.asset_id in self._steps.assets)
        return has_content and (media_type in _SOUNDS or media_type == "application/pdf")

    def _unknown(self, entry: Entry, new: JSON, key: str, value: Any) -> None:
        """Keep or remove a key that the API does not document."""
        if self._dialect.keep_unknown_keys and value is not None:
            new[key] = value
        else:
            self._lost(entry, ChangeKind.FIELD_REMOVED, key)

    def _own_part(self, new: JSON, stored: JSON | None) -> JSON:
        """Return a part with further keys of the stored part, in the stored part's order."""
        if not stored:
            return new
        if self._dialect.is_openai and (
            marker := fit(CACHE_MARKER, stored.get("prompt_cache_breakpoint"))
        ):
            new["prompt_cache_breakpoint"] = marker
        for key, inner in new.items():
            if isinstance(inner, dict) and isinstance(stored.get(key), dict):
                new[key] = in_order(inner, stored[key])
        return in_order(new, stored)
