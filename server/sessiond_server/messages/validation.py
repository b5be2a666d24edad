"""Messages on their way in: checked at the door, then encoded as they will be stored."""

import hashlib
import json
import re
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    ROLE_ASSISTANT,
    ROLE_DEVELOPER,
    ROLE_SYSTEM,
    ROLE_TOOL,
    ROLE_USER,
    Blob,
    Message,
    Part,
    Role,
)
from sessiond_server.assets.service import check_asset_id
from sessiond_server.core import structs
from sessiond_server.core.errors import Fault, invalid
from sessiond_server.core.limits import (
    MAX_APPEND_ASSETS,
    MAX_MESSAGE_ASSETS,
    MAX_PARTS,
    MAX_SUMMARY_CHARACTERS,
    Limits,
)
from sessiond_server.messages.pages import SECONDS_1970_TO_2000, encoded_tokens, varint
from sessiond_server.messages.store.rows import NO_TIME, Rows
from sessiond_server.messages.token_counts import Tokenizer, texts_of_json, texts_of_parts

MAX_TIME_S = 253_402_300_799  # the last second of the year 9999

_OPENAI = {
    "system": ROLE_SYSTEM,
    "developer": ROLE_DEVELOPER,
    "user": ROLE_USER,
    "assistant": ROLE_ASSISTANT,
    "tool": ROLE_TOOL,
    "function": ROLE_TOOL,
}
# "system" is not a role of the API's message list, but where its users keep the system prompt among the messages.
_ANTHROPIC = {"system": ROLE_SYSTEM, "user": ROLE_USER, "assistant": ROLE_ASSISTANT}
_GEMINI = {
    "system": ROLE_SYSTEM,
    "user": ROLE_USER,
    "model": ROLE_ASSISTANT,
    "function": ROLE_TOOL,
    "tool": ROLE_TOOL,
}
_FORMATS: dict[int, tuple[str, dict[str, Role.ValueType]]] = {
    FORMAT_OPENAI: ("openai", _OPENAI),
    FORMAT_ANTHROPIC: ("anthropic", _ANTHROPIC),
    FORMAT_GEMINI: ("gemini", _GEMINI),
}

ASSET_PREFIX = b"sessiond-asset:"
# Exactly 64 digits; whatever else comes after the prefix is text like any other.
_ASSET_REFERENCE = re.compile(ASSET_PREFIX + rb"([0-9a-f]{64})(?![0-9a-f])")


# The beginning of a message that is JSON and nothing else, as the generated code writes it: role = 3, format = 4, the tag of json = 5.
_HEADS = {
    (role, number): b"\x18" + varint(role) + b"\x20" + varint(number) + b"\x2a"
    for role in Role.values()
    if role
    for number in _FORMATS
}


class MessageValidator:
    """Takes the messages of one append, in one piece or several, and keeps what the append must know of them all."""

    def __init__(self, limits: Limits, tokenizer: Tokenizer, *, keeps_turn: bool = False) -> None:
        """keeps_turn: what a message says of its turn is kept; of other callers' messages it is not theirs to say."""
        self._max_bytes = limits.max_message_bytes
        self._keeps_turn = keeps_turn
        self._tokenizer = tokenizer
        self._sign = -1 if tokenizer.estimates else 1
        self._hash = hashlib.sha256()
        self.count = 0
        self.content_bytes = 0
        self.largest_bytes = 0
        self.tokens = 0
        self.first_words: str | None = None
        # Which message they are from: its place in the append, from 1.
        self.first_words_place: int | None = None
        # The least last_seq under which every parent_seq exists: a message may name any before it, in the batch or stored.
        self.parent_floor = 0
        # (place in the append, from 0; sha256) of each asset that a message refers to, each once. And where each asset is named first.
        self.asset_refs: list[tuple[int, bytes]] = []
        self.asset_fields: dict[bytes, str] = {}
        # By the place of a message, what it refers to: (sha256, field).
        self._named: dict[int, list[tuple[bytes, str]]] = {}

    @property
    def estimated_tokens(self) -> int:
        """The part of `tokens` that is estimated."""
        return self.tokens if self._tokenizer.estimates else 0

    @property
    def content_hash(self) -> bytes:
        """Of every message taken so far: the same messages give the same one."""
        return self._hash.digest()[:16]

    def encode(self, messages: Sequence[Message], *, keep_times: bool = False) -> Rows:
        """Check and encode. The messages are changed on the way.

        Args:
            keep_times: of a session that is imported, where seq must be the message's place, and create_time is kept.

        Raises: Fault INVALID_FIELD, INVALID_JSON, UNKNOWN_ROLE, MESSAGE_TOO_LARGE; with the path of the field.
        """
        rows = Rows()
        roles, formats, sizes, bodies = (
            rows.roles.append,
            rows.formats.append,
            rows.sizes.append,
            rows.bodies.append,
        )
        tokens, count_tokens, sign, keeps_turn = (
            rows.tokens.append,
            self._tokenizer.count,
            self._sign,
            self._keeps_turn,
        )
        hashed: list[bytes] = []
        first = self.count
        for message in messages:
            text, message_format = message.json, message.format
            # Nearly all messages are a provider's JSON and nothing else: they take the short way, at half the cost.
            if text and not (
                keep_times
                or message.parent_seq
                or message.HasField("metadata")
                or (keeps_turn and message.HasField("turn"))
            ):
                encoded = _bytes_of(text)
                size = len(encoded)
                role, texts = self._check_json(encoded, message_format, message.role)
                length = varint(size)
                body = b"".join((_HEADS[role, message_format], length, encoded, b"\x48", length))
            else:
                if keep_times:
                    rows.times.append(self._check_time(message))
                size, texts = self._settle(message)
                role = message.role
                # Deterministic: the order of a Struct's keys must not make a repeated request look like another.
                body = message.SerializeToString(deterministic=True)
            # Without the tokens: a request is the same one when it is repeated to a server with another tokenizer.
            hashed.append(body)
            count = count_tokens(texts)
            self.tokens += count
            roles(role)
            formats(message_format)
            sizes(size)
            tokens(sign * count)
            bodies(body + encoded_tokens(sign * count))
            self.count += 1
        self.content_bytes += sum(rows.sizes)
        self.largest_bytes = max(self.largest_bytes, *rows.sizes, 0)
        joined = b"".join(hashed)
        self._hash.update(joined)
        # One search through all of them costs half of what one through each does.
        if ASSET_PREFIX in joined:
            self._name_assets(messages, first)
        for place, named in sorted(self._named.items()):
            self._note_assets(place, named)
        self._named.clear()
        if rows.times:
            self._hash.update(array("q", rows.times).tobytes())
        return rows

    def _settle(self, message: Message) -> tuple[int, list[str]]:
        """Check any message, and make of it what is stored. Answers its size, and the texts whose tokens count."""
        content = message.WhichOneof("content")
        if content == "json":
            encoded = _bytes_of(message.json)
            size = len(encoded)
            message.role, texts = self._check_json(encoded, message.format, message.role)
        elif content == "parts":
            size, texts = self._check_parts(message)
        else:
            raise invalid(self._path, "has no content: set json (with format) or parts")
        if message.HasField("metadata"):
            structs.to_dict(message.metadata, f"{self._path}.metadata")
        if message.parent_seq:
            self._check_parent(message)
        for field in ("seq", "create_time", "token_count", "tokens_estimated"):
            message.ClearField(field)
        if not self._keeps_turn:
            message.ClearField("turn")
        # What a newer client sent and this server does not know cannot be checked, so it is not kept.
        message.DiscardUnknownFields()
        message.content_bytes = size
        return size, texts

    @property
    def _path(self) -> str:
        """Where the message is in the caller's request; places count through all pieces of an import."""
        return f"messages[{self.count}]"

    def _check_time(self, message: Message) -> int:
        """Check what an imported message says of its place. Answers its time as Rows.times has it."""
        if message.seq not in (0, self.count + 1):
            raise invalid(
                f"{self._path}.seq",
                f"is {message.seq}, but the message is number {self.count + 1} of the session",
            )
        if not message.HasField("create_time"):
            return NO_TIME
        time = message.create_time
        if not (0 <= time.seconds <= MAX_TIME_S and 0 <= time.nanos < 1_000_000_000):
            raise invalid(
                f"{self._path}.create_time", "is not a time between the years 1970 and 9999"
            )
        return (time.seconds - SECONDS_1970_TO_2000) * 1_000_000 + time.nanos // 1000

    def _check_parent(self, message: Message) -> None:
        if message.parent_seq < 0:
            raise invalid(f"{self._path}.parent_seq", "is negative")
        self.parent_floor = max(self.parent_floor, message.parent_seq - self.count)

    def _check_size(self, size: int, field: str) -> None:
        if size > self._max_bytes:
            raise invalid(
                field,
                f"takes {size} bytes; a message may have {self._max_bytes}",
                reason="MESSAGE_TOO_LARGE",
                content_bytes=size,
                max_bytes=self._max_bytes,
            )

    def _note_words(self, words: str) -> None:
        """Keep the first words of the first user message."""
        if self.first_words is None and words:
            self.first_words = _summary(words) or None
            self.first_words_place = self.count + 1 if self.first_words else None

    def _name_assets(self, messages: Sequence[Message], first: int) -> None:
        """Find the assets that messages refer to in JSON. first: the place of the first of them."""
        for place, message in enumerate(messages, first):
            if digits := _ASSET_REFERENCE.findall(_bytes_of(message.json)):
                self._named[place] = [
                    (bytes.fromhex(some.decode()), f"messages[{place}].json") for some in digits
                ]

    def _note_assets(self, place: int, named: Iterable[tuple[bytes, str]]) -> None:
        """Keep which assets a message refers to, and by which field."""
        own: set[bytes] = set()
        for sha256, field in named:
            if sha256 not in own:
                own.add(sha256)
                self.asset_refs.append((place, sha256))
                self.asset_fields.setdefault(sha256, field)
            if len(own) > MAX_MESSAGE_ASSETS:
                raise invalid(field, f"refers to more than {MAX_MESSAGE_ASSETS} assets")
        if len(self.asset_refs) > MAX_APPEND_ASSETS:
            raise invalid(
                "messages",
                f"refer to assets more than {MAX_APPEND_ASSETS} times; send several appends",
            )

    def _check_json(
        self, encoded: bytes, message_format: int, given: Role.ValueType
    ) -> tuple[Role.ValueType, list[str]]:
        """Check a provider's message. given: the role beside it, or 0. Answers its role, and the texts whose tokens count."""
        known = _FORMATS.get(message_format)
        if known is None:
            raise invalid(
                f"{self._path}.format",
                "is required with json: FORMAT_OPENAI, FORMAT_ANTHROPIC or FORMAT_GEMINI",
            )
        if len(encoded) > self._max_bytes:
            self._check_size(len(encoded), f"{self._path}.json")
        try:
            value = orjson.loads(encoded)
        except orjson.JSONDecodeError:
            value = _parse(encoded, f"{self._path}.json")
        name, roles = known
        try:
            role = roles[value["role"]]
        except (KeyError, TypeError):
            # Not an object, or none of the usual roles.
            role = _role(value, name, roles, f"{self._path}.json")
        if given and given != role:
            raise invalid(
                f"{self._path}.role",
                f"is {Role.Name(given) if given in Role.values() else given}, but the JSON says {Role.Name(role)}",
                reason="UNKNOWN_ROLE",
            )
        if role == ROLE_USER and self.first_words is None:
            self._note_words(_text(value, name))
        return role, texts_of_json(value, message_format)

    def _check_parts(self, message: Message) -> tuple[int, list[str]]:
        """Check a message in parts. Answers its size, and the texts whose tokens count."""
        path = self._path
        if message.format:
            raise invalid(f"{path}.format", "goes with json; leave it out with parts")
        if message.role not in Role.values() or not message.role:
            raise invalid(f"{path}.role", "is required with parts", reason="UNKNOWN_ROLE")
        size = message.parts.ByteSize()
        self._check_size(size, f"{path}.parts")
        named: list[tuple[bytes, str]] = []
        _check_part_list(message.parts.parts, f"{path}.parts.parts", named, nested=False)
        if named:
            self._named[self.count] = named
        if message.role == ROLE_USER:
            self._note_words(" ".join(part.text for part in message.parts.parts if part.text))
        return size, texts_of_parts(message.parts.parts)


def check_batch(count: int, content_bytes: int, limits: Limits) -> None:
    """Raises Fault BATCH_TOO_LARGE."""
    if count > limits.max_batch_messages or content_bytes > limits.max_batch_bytes:
        over = (
            f"{count} messages; a batch may have {limits.max_batch_messages}"
            if count > limits.max_batch_messages
            else f"{content_bytes} bytes of content; a batch may have {limits.max_batch_bytes}"
        )
        raise Fault(
            "BATCH_TOO_LARGE",
            f"messages: the batch has {over}. Send several batches, or use ImportMessages",
            metadata={
                "message_count": count,
                "max_messages": limits.max_batch_messages,
                "content_bytes": content_bytes,
                "max_bytes": limits.max_batch_bytes,
            },
            fields={"messages": f"has {over}"},
        )


def _bytes_of(text: str | bytes) -> bytes:
    """`json` of a message, which is bytes where it comes in by a call for many messages (rpc/raw_messages.py)."""
    return text if isinstance(text, bytes) else text.encode()


def _summary(words: str) -> str:
    short = " ".join(words[: 8 * MAX_SUMMARY_CHARACTERS].split())[:MAX_SUMMARY_CHARACTERS]
    # JSON escapes can spell what PostgreSQL's text cannot keep; the message itself keeps them.
    return short.replace("\0", "\ufffd").encode(errors="replace").decode()


def _parse(encoded: bytes, field: str) -> Any:
    try:
        return orjson.loads(encoded)
    except orjson.JSONDecodeError as first:
        # orjson refuses what JSON's grammar allows and models do send, such as half of a surrogate pair (\ud83d) in an escape.
        try:
            # As text: of bytes, the library would guess the encoding.
            return json.loads(encoded.decode(), parse_constant=_refuse_constant)
        except RecursionError:
            raise invalid(field, "is nested too deeply", reason="INVALID_JSON") from None
        except ValueError:
            raise invalid(field, f"is not JSON: {first}", reason="INVALID_JSON") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _role(
    value: Any, format_name: str, roles: dict[str, Role.ValueType], field: str
) -> Role.ValueType:
    if not isinstance(value, dict):
        raise invalid(field, "is JSON, but not an object", reason="INVALID_JSON")
    role = value.get("role")
    if isinstance(role, str) and (known := roles.get(role)):
        return known
    if role is None:
        if format_name == "openai" and isinstance(kind := value.get("type"), str):
            # Items of the Responses API that are not messages have a type instead: a call is the model's, its output the tool's.
            return ROLE_TOOL if kind.endswith(("_output", "_response")) else ROLE_ASSISTANT
        if format_name == "gemini" and "parts" in value:
            return ROLE_USER  # as the API itself has it
        raise invalid(f"{field}.role", f"is missing; {_one_of(roles)}", reason="UNKNOWN_ROLE")
    raise invalid(
        f"{field}.role",
        f"is {str(role)[:64]!r}, which {format_name} does not know; {_one_of(roles)}",
        reason="UNKNOWN_ROLE",
    )


def _one_of(roles: Iterable[str]) -> str:
    return "one of " + ", ".join(roles)


def _text(value: dict[str, Any], format_name: str) -> str:
    """What a person said, for a summary."""
    content = value.get("parts" if format_name == "gemini" else "content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(
            part["text"]
            for part in content[:16]
            if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return ""


def _check_part_list(
    parts: Sequence[Part], path: str, assets: list[tuple[bytes, str]], *, nested: bool
) -> None:
    if not parts and not nested:
        raise invalid(path, "is empty; a message has at least one part")
    if len(parts) > MAX_PARTS:
        raise invalid(path, f"has {len(parts)} parts; at most {MAX_PARTS} are allowed")
    for i, part in enumerate(parts):
        _check_part(part, f"{path}[{i}]", assets, nested=nested)


def _check_part(part: Part, path: str, assets: list[tuple[bytes, str]], *, nested: bool) -> None:
    """assets takes those that the part names, and where."""
    kind = part.WhichOneof("kind")
    match kind:
        case None:
            raise invalid(
                path,
                "has no kind: set text, image, audio, file, tool_call, tool_result, reasoning or data",
            )
        case "image" | "audio" | "file":
            blob: Blob = getattr(part, kind)
            source = blob.WhichOneof("source")
            if source is None:
                raise invalid(f"{path}.{kind}", "has no source: set inline, uri or asset_id")
            if source == "asset_id":
                field = f"{path}.{kind}.asset_id"
                assets.append((check_asset_id(blob.asset_id, field), field))
        case "tool_call" | "tool_result" if nested:
            raise invalid(f"{path}.{kind}", "may not stand inside a tool_result")
        case "tool_call":
            for field in ("call_id", "name"):
                if not getattr(part.tool_call, field):
                    raise invalid(f"{path}.tool_call.{field}", "is required")
            if part.tool_call.arguments_json:
                _parse(part.tool_call.arguments_json.encode(), f"{path}.tool_call.arguments_json")
        case "tool_result":
            if not part.tool_result.call_id:
                raise invalid(f"{path}.tool_result.call_id", "is required")
            _check_part_list(
                part.tool_result.parts, f"{path}.tool_result.parts", assets, nested=True
            )
        case "data":
            _parse(part.data.encode(), f"{path}.data")
        case _:
            pass


__all__ = ["MessageValidator", "check_batch"]
