"""Validation of incoming messages, and their encoding for storage."""

import hashlib
from array import array
from collections.abc import Iterable, Sequence

import orjson

from sessiond.v1.message_pb2 import (
    FORMAT_GEMINI,
    FORMAT_OTHER,
    ROLE_OTHER,
    ROLE_UNSPECIFIED,
    ROLE_USER,
    Message,
    Role,
)
from sessiond_server.core import structs
from sessiond_server.core.errors import invalid
from sessiond_server.core.json_text import (
    is_too_deep,
    parse_json,
    parse_odd_json,
    too_deep,
)
from sessiond_server.core.limits import (
    MAX_APPEND_ASSETS,
    MAX_FORMAT_NAME_CHARACTERS,
    MAX_MESSAGE_ASSETS,
    MAX_SUMMARY_CHARACTERS,
    Limits,
)
from sessiond_server.core.pg_time import EPOCH_S
from sessiond_server.core.validation import check_message_id, check_text
from sessiond_server.formats.asset_places import references
from sessiond_server.formats.pieces import Text
from sessiond_server.formats.read import other
from sessiond_server.formats.token_counts import (
    Tokenizer,
    texts_of_entry,
    texts_of_json,
    texts_of_parts,
)
from sessiond_server.messages import schemas
from sessiond_server.messages.duplicates import twice
from sessiond_server.messages.encoding import encoded_tokens, varint
from sessiond_server.messages.json_content import FORMATS, role_of, user_text
from sessiond_server.messages.parts import check_parts
from sessiond_server.messages.schemas.checks import SchemaError
from sessiond_server.messages.sizes import STORE_FILES
from sessiond_server.messages.store.rows import NO_TIME, Rows, Totals

MAX_TIME_S = 253_402_300_799  # the last second of the year 9999

ASSET_PREFIX = b"sessiond-asset:"

ESTIMATED = b"\x58\x01"
"""The encoded field tokens_estimated (11), for a message without tokens."""

# The beginning of a message that is only JSON, as the generated code encodes it: the fields role
# (3) and format (4), and the tag of json (5).
_HEADS = {
    (role, number): b"\x18" + varint(role) + b"\x20" + varint(number) + b"\x2a"
    for role in Role.values()
    if role
    for number in FORMATS
}


class MessageValidator:
    """Checks and encodes the messages of one append, in one or more pieces.

    The validator also collects what the append needs to know about all messages.

    Attributes:
        totals: totals of the messages so far.
        parents: (index of the message in the append, parent_seq) for each message with a
            parent_seq; 0 = it is a root.
        asset_refs: (index of the message in the append, sha256) for each asset that a message
            refers to, once per message.
        asset_fields: path of the first field that refers to an asset, by sha256.
        message_ids: (index of the message in the append, message_id) for each message with a
            message_id.
    """

    def __init__(
        self,
        limits: Limits,
        tokenizer: Tokenizer,
        *,
        keep_turn: bool = False,
        indexes: Sequence[int] = (),
    ) -> None:
        """Create a validator.

        Args:
            limits: the operator's size limits.
            tokenizer: counts the tokens.
            keep_turn: keep the fields `turn` and `incomplete` (server-written and imported messages
                only; other clients cannot set them).
            indexes: for each message, its index in the request, if messages of the request are left
                out. The list may grow while messages are encoded.
        """
        self._max_bytes = limits.max_message_bytes
        self._keep_turn = keep_turn
        self._tokenizer = tokenizer
        self._sign = -1 if tokenizer.estimates else 1
        self._hash = hashlib.sha256()
        self.totals = Totals()
        self.parents: list[tuple[int, int]] = []
        self.asset_refs: list[tuple[int, bytes]] = []
        self.asset_fields: dict[bytes, str] = {}
        self.message_ids: list[tuple[int, str]] = []
        self._indexes = indexes
        self._places: dict[str, int] = {}
        # (sha256, field) for each reference in the current piece, by the message's index.
        self._named: dict[int, list[tuple[bytes, str]]] = {}

    @property
    def content_hash(self) -> bytes:
        """Hash of all messages so far, 16 bytes. Equal messages have equal hashes."""
        return self._hash.digest()[:16]

    def encode(self, messages: Sequence[Message], *, keep_times: bool = False) -> Rows:
        """Check and encode messages. The messages are modified.

        Args:
            messages: the next piece of the append.
            keep_times: keep create_time, and require seq to be the message's place or 0 (for
                imported sessions).

        Raises:
            Fault: INVALID_FIELD, INVALID_JSON, UNKNOWN_ROLE, MESSAGE_TOO_LARGE or
                MESSAGE_ALREADY_EXISTS, with the path of the field.
        """
        rows, totals = Rows(), self.totals
        add_role, add_format, add_size = rows.roles.append, rows.formats.append, rows.sizes.append
        add_tokens, add_body = rows.tokens.append, rows.bodies.append
        count_tokens, sign, keep_turn = self._tokenizer.count, self._sign, self._keep_turn
        hashed: list[bytes] = []
        first = totals.count
        for message in messages:
            text, message_format = message.json, message.format
            # Nearly all messages are only a provider's JSON. This path is twice as fast.
            if text and not (
                keep_times
                or message.parent_seq
                or message.is_root
                or message.format_name
                or message.HasField("metadata")
                or (keep_turn and (message.HasField("turn") or message.incomplete))
            ):
                encoded = _as_bytes(text)
                size = len(encoded)
                role, texts = self._check_json(encoded, message_format, message.role)
                length = varint(size)
                body = b"".join((_HEADS[role, message_format], length, encoded, b"\x48", length))
                if message_id := message.message_id:
                    name = self._name(message_id)
                    body += b"\x6a" + varint(len(name)) + name
            else:
                if keep_times:
                    rows.times.append(self._check_time(message))
                size, texts = self._normalize(message)
                role = message.role
                # Deterministic, because the order of a Struct's keys must not make a repeated
                # request look different.
                body = message.SerializeToString(deterministic=True)
            # The hash does not include the token counts: a request repeated at a server with
            # another tokenizer is still the same request.
            hashed.append(body)
            tokens = count_tokens(texts)
            totals.tokens += tokens
            add_role(role)
            add_format(message_format)
            add_size(size)
            add_tokens(sign * tokens)
            add_body(body + encoded_tokens(sign * tokens))
            if message_format == FORMAT_OTHER and not (texts or other.is_readable(message)):
                rows.bodies[-1] += ESTIMATED
            totals.count += 1
        totals.content_bytes += sum(rows.sizes)
        totals.largest_bytes = max(totals.largest_bytes, *rows.sizes, 0)
        totals.estimated = totals.tokens if sign < 0 else 0
        joined = b"".join(hashed)
        self._hash.update(joined)
        # Searching all bodies at once takes half as long as searching each.
        if ASSET_PREFIX in joined:
            self._find_assets(messages, first)
        for place, named in sorted(self._named.items()):
            self._add_assets(place, named)
        self._named.clear()
        if rows.times:
            self._hash.update(array("q", rows.times).tobytes())
        return rows

    def _normalize(self, message: Message) -> tuple[int, list[str]]:
        """Check any message, and clear the fields that are not stored.

        Returns:
            The size of the content in bytes, and the texts whose tokens count.
        """
        content = message.WhichOneof("content")
        if content == "json":
            encoded = _as_bytes(message.json)
            size = len(encoded)
            if message.format == FORMAT_OTHER:
                message.role, texts = self._check_other(encoded, message)
            else:
                message.role, texts = self._check_json(encoded, message.format, message.role)
        elif content == "parts":
            size, texts = self._check_parts(message)
        else:
            raise invalid(self._path, "has no content: set json (with format) or parts")
        if message.format_name and message.format != FORMAT_OTHER:
            raise invalid(f"{self._path}.format_name", "goes with FORMAT_OTHER only; leave it out")
        if message.HasField("metadata"):
            structs.to_dict(message.metadata, f"{self._path}.metadata")
        if message.is_root:
            if message.parent_seq:
                raise invalid(f"{self._path}.is_root", "cannot be combined with parent_seq")
            self.parents.append((self.totals.count, 0))
        elif message.parent_seq:
            if message.parent_seq < 0:
                raise invalid(f"{self._path}.parent_seq", "is negative")
            totals = self.totals
            self.parents.append((totals.count, message.parent_seq))
            totals.parent_floor = max(totals.parent_floor, message.parent_seq - totals.count)
        if message.message_id:
            self._name(message.message_id)
        for field in ("seq", "create_time", "token_count", "tokens_estimated"):
            message.ClearField(field)
        if not self._keep_turn:
            message.ClearField("turn")
            message.ClearField("incomplete")
        # Discard fields of newer clients that this server does not know: it cannot check them.
        message.DiscardUnknownFields()
        message.content_bytes = size
        return size, texts

    @property
    def _path(self) -> str:
        return self._path_of(self.totals.count)

    def _path_of(self, place: int) -> str:
        """Path of a message in the request; indexes count through all pieces of an import."""
        return f"messages[{self._indexes[place] if self._indexes else place}]"

    def _name(self, message_id: str) -> bytes:
        """Check and remember the message_id of the message; return it encoded."""
        field = f"{self._path}.message_id"
        check_message_id(message_id, field)
        place = self.totals.count
        first = self._places.setdefault(message_id, place)
        if first != place:
            raise twice(message_id, field, self._path_of(first))
        self.message_ids.append((place, message_id))
        return message_id.encode()

    def _check_time(self, message: Message) -> int:
        """Check seq and create_time of an imported message; return its time as in Rows.times."""
        number = self.totals.count + 1
        if message.seq not in (0, number):
            raise invalid(
                f"{self._path}.seq",
                f"is {message.seq}, but the message is number {number} of the session",
            )
        if not message.HasField("create_time"):
            return NO_TIME
        time = message.create_time
        if not (0 <= time.seconds <= MAX_TIME_S and 0 <= time.nanos < 1_000_000_000):
            raise invalid(
                f"{self._path}.create_time", "is not a time between the years 1970 and 9999"
            )
        return (time.seconds - EPOCH_S) * 1_000_000 + time.nanos // 1000

    def _check_size(self, size: int, field: str) -> None:
        if size > self._max_bytes:
            raise invalid(
                field,
                f"takes {size} bytes; a message may have {self._max_bytes} (the server's "
                f"max_message_bytes). {STORE_FILES}",
                reason="MESSAGE_TOO_LARGE",
                content_bytes=size,
                max_bytes=self._max_bytes,
            )

    def _set_first_words(self, words: str) -> None:
        if self.totals.first_words is None and (summary := _summary(words)):
            self.totals.first_words = summary
            self.totals.first_words_place = self.totals.count + 1

    def _find_assets(self, messages: Sequence[Message], first: int) -> None:
        """Find the assets that messages refer to in JSON; `first` is the first message's index."""
        for place, message in enumerate(messages, first):
            encoded = _as_bytes(message.json)
            if ASSET_PREFIX in encoded:
                field = f"{self._path_of(place)}.json"
                if message.format == FORMAT_OTHER:
                    continue
                value = parse_json(encoded, field)
                self._named[place] = [
                    (sha256, field + path) for sha256, path in references(value, message.format)
                ]

    def _add_assets(self, place: int, named: Iterable[tuple[bytes, str]]) -> None:
        """Add the references of one message to asset_refs and asset_fields."""
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
        """Check a provider's message.

        Args:
            encoded: the JSON.
            message_format: the format of the message.
            given: the role that was sent with the JSON, or 0.

        Returns:
            The role, and the texts whose tokens count.
        """
        known = FORMATS.get(message_format)
        if message_format == FORMAT_OTHER:
            raise invalid(f"{self._path}.format_name", "is required with FORMAT_OTHER")
        if known is None:
            raise invalid(
                f"{self._path}.format",
                "is required with json: FORMAT_OPENAI, FORMAT_ANTHROPIC or FORMAT_GEMINI; or "
                "FORMAT_OTHER, with a format_name",
            )
        if len(encoded) > self._max_bytes:
            self._check_size(len(encoded), f"{self._path}.json")
        try:
            value = orjson.loads(encoded)
        except orjson.JSONDecodeError as e:
            value = parse_odd_json(encoded, f"{self._path}.json", e)
        name, roles = known
        try:
            role = roles[value["role"]]
        except (KeyError, TypeError):
            # The value is not an object, or its role is not one of the usual roles.
            role = role_of(value, name, roles, f"{self._path}.json")
        if given and given != role:
            given_name = Role.Name(given) if given in Role.values() else given
            raise invalid(
                f"{self._path}.role",
                f"is {given_name}, but the JSON says {Role.Name(role)}",
                reason="UNKNOWN_ROLE",
            )
        content = value.get("content")
        # The shape of nearly all messages.
        if isinstance(content, str) and len(value) == 2 and message_format != FORMAT_GEMINI:
            texts = [content]
        else:
            if is_too_deep(value, encoded):
                raise too_deep(f"{self._path}.json")
            try:
                schemas.CHECKS[message_format](value)
            except SchemaError as e:
                raise schemas.fault_of(e, value, name, f"{self._path}.json") from None
            texts = texts_of_json(value, message_format)
        if role == ROLE_USER and self.totals.first_words is None:
            self._set_first_words(user_text(value, name))
        return role, texts

    def _check_other(self, encoded: bytes, message: Message) -> tuple[Role.ValueType, list[str]]:
        """Check a message of FORMAT_OTHER; return its role, and the texts whose tokens count."""
        path = self._path
        field = f"{path}.format_name"
        if not check_text(field, message.format_name, MAX_FORMAT_NAME_CHARACTERS):
            raise invalid(field, "is required with FORMAT_OTHER")
        if message.role not in Role.values():
            raise invalid(f"{path}.role", "is not a role", reason="UNKNOWN_ROLE")
        if len(encoded) > self._max_bytes:
            self._check_size(len(encoded), f"{path}.json")
        try:
            value = orjson.loads(encoded)
        except orjson.JSONDecodeError as e:
            value = parse_odd_json(encoded, f"{path}.json", e)
        if not isinstance(value, dict):
            raise invalid(f"{path}.json", "is JSON, but not an object", reason="INVALID_JSON")
        if is_too_deep(value, encoded):
            raise too_deep(f"{path}.json")
        entry = other.read_json(message, value)
        if entry.role == ROLE_USER and self.totals.first_words is None and not entry.is_context:
            texts = (piece.text for piece in entry.pieces[:16] if isinstance(piece, Text))
            self._set_first_words(" ".join(texts))
        return entry.role, texts_of_entry(entry)

    def _check_parts(self, message: Message) -> tuple[int, list[str]]:
        """Check a message in parts; return its size, and the texts whose tokens count."""
        path = self._path
        if message.format:
            raise invalid(f"{path}.format", "goes with json; leave it out with parts")
        if message.role in (ROLE_UNSPECIFIED, ROLE_OTHER):
            raise invalid(f"{path}.role", "is required with parts", reason="UNKNOWN_ROLE")
        if message.role not in Role.values():
            raise invalid(
                f"{path}.role", f"is {message.role}, which is not a Role", reason="UNKNOWN_ROLE"
            )
        size = message.parts.ByteSize()
        self._check_size(size, f"{path}.parts")
        named: list[tuple[bytes, str]] = []
        check_parts(message.parts.parts, f"{path}.parts.parts", named, nested=False)
        if named:
            self._named[self.totals.count] = named
        if message.role == ROLE_USER:
            self._set_first_words(" ".join(part.text for part in message.parts.parts if part.text))
        return size, texts_of_parts(message.parts.parts)


def _as_bytes(text: str | bytes) -> bytes:
    """Return the field json of a message as bytes, which it already is after rpc/decoding.py."""
    return text if isinstance(text, bytes) else text.encode()


def _summary(words: str) -> str:
    short = ""
    for limit in (2 * MAX_SUMMARY_CHARACTERS, 8 * MAX_SUMMARY_CHARACTERS):
        short = " ".join(words[:limit].split())[:MAX_SUMMARY_CHARACTERS]
        if len(short) == MAX_SUMMARY_CHARACTERS or len(words) <= limit:
            break  # a longer part of `words` would give the same summary
    # JSON escapes can spell characters that PostgreSQL's text cannot hold. The message keeps them,
    # but the summary cannot.
    return short.replace("\0", "\ufffd").encode(errors="replace").decode()
