"""Requests that Anthropic's Messages API refuses."""

import re
from collections.abc import Collection
from typing import Any, NoReturn

from .anthropic_pairs import check_tools_of_client, check_tools_of_server
from .body import Signatures, any_signature, check_json, decode_base64, image_type
from .refusal import JSON, Refusal
from .sdk_types import block_keys, request_keys

MAX_MESSAGES = 100_000
MAX_MEDIA = 100
MAX_IMAGE_BYTES = 5 * 1024**2
MAX_CACHE_MARKERS = 4
MIN_BUDGET = 1024
TOOL_NAME = "^[a-zA-Z0-9_-]{1,128}$"
CALL_ID = "^[a-zA-Z0-9_-]+$"
SERVER_CALL_ID = "^srvtoolu_[a-zA-Z0-9_]+$"
_IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_OF_USERS = {"image", "document", "search_result", "tool_result", "container_upload"}
_IN_RESULTS = ("text", "image", "search_result", "document", "tool_reference", "browser_state")
_THINKING = ("thinking", "redacted_thinking")
_SAMPLING = frozenset({"temperature", "top_p", "top_k"})
# _NO_SYSTEM: models without system messages in mid-conversation; they also accept _SAMPLING.
# _PREFILL: models that continue a prefilled answer.
_NO_SYSTEM = re.compile(r"claude-([23]|instant|sonnet-4|haiku-4|opus-4-([0-7]|20))")
_PREFILL = re.compile(r"claude-([23]|instant|(sonnet|haiku|opus)-4-([0-5]|20))")


def validate_anthropic(body: JSON, *, signatures: Signatures = any_signature) -> None:
    """Check a request as the Messages API does.

    Args:
        body: the request.
        signatures: returns whether the API made the signature of a thinking block, the data of a
            redacted block, or the encrypted content of a search result. Its second argument is
            the text of the thinking block, and "" for the others.

    Raises:
        Refusal: if the API would refuse the body.
    """
    _Messages(signatures).check(body)


def refuse(message: str) -> NoReturn:
    """Raise the refusal."""
    raise Refusal("anthropic", message)


class _Messages:
    def __init__(self, signatures: Signatures) -> None:
        self._signatures = signatures
        self._ids: set[str] = set()
        self._cached: list[str] = []
        self._media = 0

    def check(self, body: JSON) -> None:
        check_json("anthropic", body)
        sampling = _SAMPLING if _NO_SYSTEM.search(str(body.get("model"))) else frozenset[str]()
        self._keys(body, request_keys("anthropic") | sampling, "")
        for key, kind in (("model", str), ("max_tokens", int), ("messages", list)):
            self._need(body, key, kind, "")
        model, messages = body["model"], body["messages"]
        if not messages:
            refuse("messages: at least one message is required")
        if len(messages) > MAX_MESSAGES:
            refuse(f"messages: List should have at most {MAX_MESSAGES} items")
        self._options(body)
        self._tools(body)
        if "system" in body:
            self._texts(body["system"], "system")
        for index, message in enumerate(messages):
            self._message(message, index, model)
        self._placement(messages)
        check_tools_of_client(messages)
        check_tools_of_server(messages)
        self._end(messages, model)
        self._thinking(body)
        self._cache(body)
        if self._media > MAX_MEDIA:
            refuse(f"messages: Too much media: {self._media} > {MAX_MEDIA}")

    def _keys(self, holder: JSON, known: Collection[str], path: str) -> None:
        for key in holder:
            if key not in known:
                refuse(f"{_join(path, key)}: Extra inputs are not permitted")

    def _need(self, holder: JSON, key: str, kind: type, path: str) -> Any:
        """Return a required value of a kind."""
        at = _join(path, key)
        if key not in holder:
            refuse(f"{at}: Field required")
        value = holder[key]
        if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
            names = {str: "string", int: "integer", list: "list", dict: "dictionary"}
            refuse(f"{at}: Input should be a valid {names[kind]}")
        return value

    def _option(self, holder: JSON, key: str, kind: type) -> Any:
        """Return an optional value of a kind; an empty one if it is missing."""
        return self._need(holder, key, kind, "") if key in holder else kind()

    def _object(self, value: Any, path: str) -> JSON:
        if not isinstance(value, dict):
            refuse(f"{path}: Input should be a valid dictionary or object to extract fields from")
        return value

    def _pattern(self, value: str, pattern: str, path: str) -> None:
        if not re.search(pattern, value) or value.endswith("\n"):
            refuse(f"{path}: String should match pattern '{pattern}'")

    def _options(self, body: JSON) -> None:
        if body["max_tokens"] < 1:
            refuse("max_tokens: Input should be greater than or equal to 1")
        for index, sequence in enumerate(self._option(body, "stop_sequences", list)):
            if not isinstance(sequence, str) or not sequence.strip():
                refuse(f"stop_sequences.{index}: each stop sequence must contain non-whitespace")
        thinking = self._option(body, "thinking", dict)
        choice = self._option(body, "tool_choice", dict)
        if thinking.get("type") != "enabled":
            return
        if self._need(thinking, "budget_tokens", int, "thinking.enabled") < MIN_BUDGET:
            refuse(
                "thinking.enabled.budget_tokens: Input should be greater than or equal to "
                f"{MIN_BUDGET}"
            )
        if body["max_tokens"] <= thinking["budget_tokens"]:
            refuse("`max_tokens` must be greater than `thinking.budget_tokens`")
        if body.get("temperature", 1) != 1:
            refuse("`temperature` may only be set to 1 when thinking is enabled")
        if choice.get("type") in ("any", "tool"):
            refuse("Thinking may not be enabled when tool_choice forces tool use.")

    def _tools(self, body: JSON) -> None:
        tools = self._option(body, "tools", list)
        if "tool_choice" in body and not tools:
            refuse("tool_choice: tool_choice may only be specified while providing tools")
        names: set[str] = set()
        for index, tool in enumerate(tools):
            path = f"tools.{index}.custom"
            self._marker(self._object(tool, path), f"tools.{index}")
            if tool.get("type", "custom") != "custom":
                continue
            name = self._need(tool, "name", str, path)
            self._pattern(name, TOOL_NAME, f"{path}.name")
            schema = self._need(tool, "input_schema", dict, path)
            if schema.get("type") != "object":
                refuse(f"{path}.input_schema.type: Input should be 'object'")
            if name in names:
                refuse("tools: Tool names must be unique.")
            names.add(name)

    def _message(self, message: Any, index: int, model: str) -> None:
        path = f"messages.{index}"
        role = self._need(self._object(message, path), "role", str, path)
        if role == "system" and _NO_SYSTEM.search(model):
            refuse(f"{path}: role 'system' is not supported on this model")
        if role not in ("user", "assistant", "system"):
            refuse(f'messages: Unexpected role "{role}". Allowed roles are "user" or "assistant"')
        self._keys(message, ("role", "content"), path)
        content = message.get("content")
        if "content" not in message:
            refuse(f"{path}.content: Field required")
        if not isinstance(content, str | list):
            refuse(f"{path}.content: Input should be a valid list")
        if not content:
            refuse(
                f"{path}: all messages must have non-empty content except for the optional final "
                "assistant message"
            )
        if role == "system":
            self._texts(content, path)
        elif isinstance(content, str):
            self._text(content, "messages")
        else:
            for place, block in enumerate(content):
                self._block(block, role, f"{path}.content.{place}")
            self._order(content, f"{path}.content")

    def _order(self, content: list[JSON], path: str) -> None:
        first = content[0]["type"]
        if first not in _THINKING and any(block["type"] in _THINKING for block in content):
            refuse(
                f"{path}.0: If an assistant message contains any thinking blocks, the first block "
                f"must be `thinking` or `redacted_thinking`. Found `{first}`."
            )

    def _text(self, text: str, path: str) -> None:
        if not text:
            refuse(f"{path}: text content blocks must be non-empty")
        if not text.strip():
            refuse(f"{path}: text content blocks must contain non-whitespace text")

    def _texts(self, content: Any, path: str) -> None:
        """Check content that may only be text."""
        if isinstance(content, str):
            self._text(content, path)
            return
        if not isinstance(content, list):
            refuse(f"{path}: Input should be a valid list")
        for index, block in enumerate(content):
            if not isinstance(block, dict) or block.get("type") != "text":
                refuse(f"{path}.{index}.type: Input should be 'text'")
            self._block(block, "system", f"{path}.{index}")

    def _block(self, block: Any, role: str, path: str, allowed: Collection[str] = ()) -> None:
        kind: str = self._need(self._object(block, path), "type", str, path)
        tags = allowed or block_keys().keys() - {"tool_reference", "browser_state"}
        if kind not in tags:
            names = ", ".join(f"'{tag}'" for tag in sorted(tags))
            refuse(
                f"{path}: Input tag '{kind}' found using 'type' does not match any of the expected "
                f"tags: {names}"
            )
        if kind != "text" and (role == "user") is not (kind in _OF_USERS) and not allowed:
            other = "assistant" if role == "user" else "user"
            refuse(f"{path}: `{kind}` blocks can only be in `{other}` messages")
        at = f"{path}.{kind}"
        self._keys(block, block_keys()[kind], at)
        self._marker(block, path)
        match kind:
            case "text":
                self._text(self._need(block, "text", str, at), "messages")
            case "image" | "document":
                self._source(block, kind, at)
            case "tool_use" | "server_tool_use":
                self._call(block, kind, at)
            case "tool_result":
                self._result(block, at)
            case "thinking":
                self._need(block, "thinking", str, at)
                self._signed(self._need(block, "signature", str, at), block["thinking"], path)
            case "redacted_thinking":
                if not self._signatures(self._need(block, "data", str, at), ""):
                    refuse(f"{path}: Invalid `data` in `redacted_thinking` block")
            case "web_search_tool_result":
                self._search(block, at)
            case _:
                pass
        if kind.endswith("_tool_result"):
            self._need(block, "tool_use_id", str, at)

    def _signed(self, signature: str, text: str, path: str) -> None:
        if not self._signatures(signature, text):
            refuse(f"{path}: Invalid `signature` in `thinking` block")

    def _marker(self, holder: JSON, path: str) -> None:
        marker = holder.get("cache_control")
        if marker is None:
            return
        if not isinstance(marker, dict) or marker.get("type") != "ephemeral":
            refuse(f"{path}.cache_control.ephemeral.type: Input should be 'ephemeral'")
        ttl = marker.get("ttl", "5m")
        if ttl not in ("5m", "1h"):
            refuse(f"{path}.cache_control.ephemeral.ttl: Input should be '5m' or '1h'")
        self._cached.append(ttl)

    def _cache(self, body: JSON) -> None:
        self._marker(body, "")
        if len(self._cached) > MAX_CACHE_MARKERS:
            refuse(
                f"A maximum of {MAX_CACHE_MARKERS} blocks with cache_control may be provided. "
                f"Found {len(self._cached)}."
            )
        if "1h" in self._cached and "5m" in self._cached[: self._cached.index("1h")]:
            refuse("a ttl='1h' cache_control block must not come after a ttl='5m' cache_control")

    def _call(self, block: JSON, kind: str, path: str) -> None:
        call_id = self._need(block, "id", str, path)
        pattern = CALL_ID if kind == "tool_use" else SERVER_CALL_ID
        self._pattern(call_id, pattern, f"{path}.id")
        self._pattern(self._need(block, "name", str, path), TOOL_NAME, f"{path}.name")
        self._need(block, "input", dict, path)
        if call_id in self._ids:
            refuse("messages: `tool_use` ids must be unique")
        self._ids.add(call_id)

    def _result(self, block: JSON, path: str) -> None:
        self._pattern(self._need(block, "tool_use_id", str, path), CALL_ID, f"{path}.tool_use_id")
        content = block.get("content") or []
        if not isinstance(content, str | list):
            refuse(f"{path}.content: Input should be a valid list")
        if block.get("is_error") and not content:
            refuse(f"{path}: content cannot be empty if `is_error` is true")
        for index, inner in enumerate(content if isinstance(content, list) else ()):
            self._block(inner, "user", f"{path}.content.{index}", _IN_RESULTS)
            if block.get("is_error") and inner["type"] != "text":
                refuse(f'{path}: all content must be type "text" if `is_error` is true')

    def _search(self, block: JSON, path: str) -> None:
        content = block.get("content")
        for index, found in enumerate(content if isinstance(content, list) else ()):
            at = f"{path}.content.{index}"
            signature = self._need(self._object(found, at), "encrypted_content", str, at)
            if not self._signatures(signature, ""):
                refuse(f"{at}: Invalid `encrypted_content` in `search_result`")

    def _source(self, block: JSON, kind: str, path: str) -> None:
        source = self._need(block, "source", dict, path)
        self._media += 1
        match source.get("type"):
            case "url":
                url = self._need(source, "url", str, f"{path}.source.url")
                if not re.match("https?://", url):
                    refuse(f"{path}.source.url.url: Only HTTPS URLs are supported.")
            case "file":
                self._need(source, "file_id", str, f"{path}.source.file")
            case "base64":
                self._base64(source, kind, f"{path}.source.base64")
            case "text" if kind == "document":
                at = f"{path}.source.text"
                if self._need(source, "media_type", str, at) != "text/plain":
                    refuse(f"{at}.media_type: Input should be 'text/plain'")
                if not self._need(source, "data", str, at).strip():
                    refuse(f"{at}.data: text content blocks must contain non-whitespace text")
            case "content" if kind == "document":
                content = source.get("content")
                for index, inner in enumerate(content if isinstance(content, list) else ()):
                    at = f"{path}.source.content.content.{index}"
                    self._block(inner, "user", at, ("text", "image"))
            case tag:
                refuse(
                    f"{path}.source: Input tag '{tag}' found using 'type' does not match any of "
                    "the expected tags"
                )

    def _base64(self, source: JSON, kind: str, path: str) -> None:
        types = _IMAGE_TYPES if kind == "image" else ("application/pdf",)
        media_type = self._need(source, "media_type", str, path)
        if media_type not in types:
            names = " or ".join(f"'{name}'" for name in types)
            refuse(f"{path}.media_type: Input should be {names}")
        content = decode_base64(self._need(source, "data", str, path))
        if content is None:
            refuse(f"{path}.data: invalid base64 data")
        size = len(source["data"])
        if kind == "image" and size > MAX_IMAGE_BYTES:
            limit = f"{size} bytes > {MAX_IMAGE_BYTES} bytes"
            refuse(f"{path}: image exceeds 5 MB maximum: {limit}")
        shown = image_type(content)
        if kind == "image" and shown not in (None, media_type):
            refuse(
                f"{path}.data: Image does not match the provided media type {media_type}: it "
                f"appears to be {shown}"
            )

    def _placement(self, messages: list[JSON]) -> None:
        if messages[0]["role"] != "user":
            refuse('messages: first message must use the "user" role')
        for index, message in enumerate(messages):
            if message["role"] != "system":
                continue
            if messages[index - 1]["role"] != "user":
                refuse(f"messages.{index}: role 'system' must follow a 'user' message")
            if index + 1 < len(messages) and messages[index + 1]["role"] != "assistant":
                refuse(
                    f"messages.{index}: role 'system' must precede an 'assistant' message or be "
                    "the last message"
                )

    def _end(self, messages: list[JSON], model: str) -> None:
        content = messages[-1]["content"]
        if messages[-1]["role"] != "assistant":
            return
        # The API continues an answer that it paused for one of its own tools.
        if isinstance(content, list) and content[-1]["type"] == "server_tool_use":
            return
        if not _PREFILL.search(model):
            refuse(
                "This model does not support assistant message prefill. The conversation must end "
                "with a user message."
            )
        text = content if isinstance(content, str) else content[-1].get("text", "")
        if text != text.rstrip():
            refuse("messages: final assistant content cannot end with trailing whitespace")

    def _thinking(self, body: JSON) -> None:
        """Check that the thinking of a running tool loop is complete."""
        if body.get("thinking", {}).get("type") != "enabled":
            return
        messages = body["messages"]
        last = max(
            (i for i, message in enumerate(messages) if message["role"] == "assistant"), default=-1
        )
        content = messages[last]["content"]
        if last < 0 or isinstance(content, str) or content[0]["type"] in _THINKING:
            return
        if any(block["type"] == "tool_use" for block in content):
            refuse(
                f"messages.{last}.content.0.type: Expected `thinking` or `redacted_thinking`, but "
                f"found `{content[0]['type']}`. When `thinking` is enabled, a final `assistant` "
                "message must start with a thinking block (preceeding the lastmost set of "
                "`tool_use` and `tool_result` blocks). We recommend you include thinking blocks "
                "from previous turns. To avoid this requirement, disable `thinking`."
            )


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
