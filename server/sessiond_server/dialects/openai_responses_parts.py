"""The parts of requests of OpenAI's Responses API: the content of messages, and single items."""

import re
from collections.abc import Iterator, Sequence

from sessiond.v1.message_pb2 import FORMAT_OPENAI, ROLE_ASSISTANT
from sessiond_server.dialects.openai_items import (
    CACHE_MARKER,
    ID_PREFIXES,
    LINKED,
    OUTPUT_TEXT,
    STANDALONE,
    fit,
    fitted,
)
from sessiond_server.dialects.request import (
    IMAGES,
    SUMMARIES,
    History,
    Steps,
    in_order,
    is_openai_file,
    is_web,
)
from sessiond_server.formats.pairing import Answer, Said, Step
from sessiond_server.formats.pieces import (
    JSON,
    Content,
    Entry,
    Foreign,
    Media,
    Piece,
    Text,
    Thinking,
    string_of,
)
from sessiond_server.formats.report import ChangeKind
from sessiond_server.formats.wire import join

ITEM_ID = re.compile("[a-zA-Z0-9_-]{1,64}")
_DETAILS = ("low", "high", "auto", "original")


class ResponsesParts:
    """Writes the parts of messages, and the items that are neither messages nor calls.

    Args:
        history: the input of the request.

    Raises:
        UnsendableHistory: if nothing of the history can be sent.
    """

    def __init__(self, history: History) -> None:
        self._steps = Steps(
            history,
            id_pattern=r"[\x21-\x7e]",
            id_length=64,
            name_pattern="[a-zA-Z0-9_-]",
            name_length=64,
            reads_summaries=not history.omits_signed,
        )
        self._lost = self._steps.lost
        self._omits_signed = history.omits_signed
        self._ids: set[str] = set()
        self._approved = _approved_requests(self._steps.steps)

    # Content

    def _parts(
        self, entry: Entry, pieces: Sequence[Piece], *, is_text_only: bool = False
    ) -> list[JSON]:
        """Return pieces as the content of a message that is not an answer of the model."""
        parts: list[JSON] = []
        for piece in pieces:
            if isinstance(piece, Thinking):
                self._lost(entry, ChangeKind.THINKING_OMITTED)
            elif isinstance(piece, Text | Media | Foreign):
                part = self._part(entry, piece, is_text_only=is_text_only)
                if part.get("text") != "" or entry.is_item:
                    parts.append(part)
        return parts

    def _part(self, entry: Entry, piece: Content, *, is_text_only: bool = False) -> JSON:
        own = piece.source if entry.format == FORMAT_OPENAI else None
        new: JSON | None = None
        if isinstance(piece, Media) and not is_text_only:
            new = self._file(entry, piece, own)
        if new is None:
            new = {"type": "input_text", "text": self._steps.as_text(entry, piece)}
        stored_marker = own.get("prompt_cache_breakpoint") if own else None
        if stored_marker is not None:
            marker = fit(CACHE_MARKER, stored_marker)
            if marker:
                new["prompt_cache_breakpoint"] = marker
            if marker != stored_marker:
                kind = ChangeKind.FIELD_CHANGED if marker else ChangeKind.FIELD_REMOVED
                self._lost(entry, kind, "prompt_cache_breakpoint")
        return in_order(new, own) if own and own.get("type") == new["type"] else new

    def _file(self, entry: Entry, piece: Media, own: JSON | None) -> JSON | None:
        media_type = self._steps.media_type(piece)
        file_id = piece.file_id if own and is_openai_file(piece.file_id) else ""
        detail = _detail(own)
        if piece.kind == "image" and (media_type or "image/png") in IMAGES:
            url = self._image_url(piece)
            source: JSON = {"image_url": url} if url else {"file_id": file_id}
            if detail not in _DETAILS:
                if own and own.get("type") == "input_image":
                    self._lost(entry, ChangeKind.FIELD_CHANGED, "detail")
                detail = "auto"
            if any(source.values()):
                self._steps.name_lost(entry, piece)
                return {"type": "input_image", "detail": detail, **source}
        if media_type == "application/pdf" or (own and piece.kind == "file"):
            new: JSON = {"type": "input_file"}
            if own and own.get("type") == "input_file":
                new |= {"filename": piece.name} if piece.name else {}
                new |= {"detail": detail} if detail in _DETAILS[:3] else {}
            prefix = f"data:{media_type or 'application/pdf'};base64,"
            if data := self._steps.content_of(piece, prefix=prefix):
                return new | {"filename": piece.name or "file.pdf", "file_data": data}
            if is_web(piece.uri):
                return new | {"file_url": piece.uri}
            if file_id:
                return new | {"file_id": file_id}
        return None

    def _image_url(self, piece: Media) -> str:
        media_type = self._steps.media_type(piece) or "image/png"
        url = self._steps.content_of(piece, prefix=f"data:{media_type};base64,")
        return url or (piece.uri if is_web(piece.uri) else "")

    # Items

    def _item(self, entry: Entry, pieces: Sequence[Piece], *, is_unlinked: bool) -> Iterator[JSON]:
        """Write an item that is not a message, a call, a result or reasoning.

        Args:
            entry: the item.
            pieces: the pieces of the item.
            is_unlinked: whether the reasoning that preceded the item is left out.
        """
        kind = str(entry.value.get("type"))
        is_readable = kind in STANDALONE and not (self._omits_signed and kind in SUMMARIES)
        item = self._known(entry) if is_readable else None
        if item and not (is_unlinked and kind in LINKED) and self._is_approved(kind, item):
            for piece in pieces:
                if isinstance(piece, Media) and "result" in item:
                    item["result"] = self._steps.content_of(piece) or None
                    if not item["result"]:
                        self._lost(entry, ChangeKind.FILE_REPLACED, kind)
            yield self._steps.sent(entry, item)
            return
        texts = self._steps.texts(entry, pieces)
        role = "assistant" if entry.role == ROLE_ASSISTANT else "user"
        if any(texts):
            yield {"role": role, "content": join("\n\n", [text for text in texts if text])}
        else:
            self._lost(entry, ChangeKind.MESSAGE_OMITTED)

    def _is_approved(self, kind: str, item: JSON) -> bool:
        """Whether an approval's request and answer are both sent; True for other items."""
        if kind == "mcp_approval_request":
            return item["id"] in self._approved
        if kind == "mcp_approval_response":
            request_id = item["approval_request_id"]
            return request_id in self._approved and request_id in self._ids
        return True

    def _is_new_id(self, item: JSON) -> bool:
        """Whether an item may keep its id: the API accepts only its own ids, and each only once."""
        item_id = item.get("id")
        prefix = ID_PREFIXES.get(str(item.get("type")), "")
        if not isinstance(item_id, str) or item_id in self._ids:
            return False
        if not (ITEM_ID.fullmatch(item_id) and item_id.startswith(prefix)):
            return False
        self._ids.add(item_id)
        return True

    def _known(self, entry: Entry, **changed: str) -> JSON | None:
        """Return a stored item in the shape that the API accepts. None = no shape fits.

        Args:
            entry: the item.
            changed: fields that have another value in the request.
        """
        item = {**entry.value, **changed}
        if item.get("id") is not None and "id" not in changed and not self._is_new_id(item):
            del item["id"]
        return fitted(item)


def output_part(piece: Text) -> JSON:
    """Return a text of an answer in the form in which the API returns texts."""
    own = piece.source or {}
    if own.get("type") == "refusal":
        return {"type": "refusal", "refusal": piece.text}
    given = {**own, "type": "output_text", "text": piece.text}
    new = fit(OUTPUT_TEXT, given) or {"type": "output_text", "text": piece.text}
    return in_order({"annotations": [], **new}, own)


def _detail(part: JSON | None) -> object:
    inner = part.get("image_url") if part else None
    return part and (part.get("detail") or (isinstance(inner, dict) and inner.get("detail")))


def _approved_requests(steps: Sequence[Step]) -> set[str]:
    """Return the ids of requests for approval that are answered before the model goes on."""
    requests: set[str] = set()
    approved: set[str] = set()
    for step in steps:
        if isinstance(step, Answer):
            items = [entry.value for entry, _ in step.entries if entry.format == FORMAT_OPENAI]
            requests = {
                string_of(item.get("id"))
                for item in items
                if item.get("type") == "mcp_approval_request"
            }
        elif isinstance(step, Said) and step.entry.value.get("type") == "mcp_approval_response":
            approved |= requests & {string_of(step.entry.value.get("approval_request_id"))}
    return approved
