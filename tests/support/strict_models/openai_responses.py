"""Requests that OpenAI's Responses API refuses."""

import re
from collections.abc import Mapping
from typing import Any

from .body import Signatures, any_signature, check_json, split_data_url
from .fields import MAX_TOOLS, Fields, kind_of
from .refusal import JSON
from .sdk_types import item_keys, item_nulls, request_keys

MAX_ID = 64
MIN_OUTPUT_TOKENS = 16
_ROLES = ("assistant", "system", "developer", "user")
_INPUT_PARTS = ("input_text", "input_image", "input_file")
_OUTPUT_PARTS = ("output_text", "refusal")
_PART_KEYS: Mapping[str, frozenset[str]] = {
    "input_text": frozenset({"type", "text", "prompt_cache_breakpoint"}),
    "input_image": frozenset({"type", "detail", "file_id", "image_url", "prompt_cache_breakpoint"}),
    "input_file": frozenset(
        {
            "type",
            "detail",
            "file_data",
            "file_id",
            "file_url",
            "filename",
            "prompt_cache_breakpoint",
        }
    ),
    "output_text": frozenset({"type", "text", "annotations", "logprobs"}),
    "refusal": frozenset({"type", "refusal"}),
}
# The prefix of an item's id, by the item's type.
_PREFIX = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "web_search_call": "ws",
    "file_search_call": "fs",
    "code_interpreter_call": "ci",
    "image_generation_call": "ig",
    "mcp_call": "mcp",
    "mcp_list_tools": "mcpl",
    "mcp_approval_request": "mcpr",
    "computer_call": "cu",
    "compaction": "cmp",
}
# Calls that the caller answers: the type of their result, and the API's name for them.
_ANSWERED = {
    "function_call": ("function_call_output", "function call"),
    "custom_tool_call": ("custom_tool_call_output", "custom tool call"),
    "computer_call": ("computer_call_output", "computer call"),
    "local_shell_call": ("local_shell_call_output", "local shell call"),
    "shell_call": ("shell_call_output", "shell call"),
    "apply_patch_call": ("apply_patch_call_output", "apply patch call"),
}
_RESULTS = {result: (call, name) for call, (result, name) in _ANSWERED.items()}
# Items that only the caller writes. Any other item may follow the reasoning that led to it.
_OF_CALLERS = {
    *_RESULTS,
    "mcp_approval_response",
    "item_reference",
    "reasoning",
    "additional_tools",
}


def validate_openai_responses(
    body: JSON,
    *,
    signatures: Signatures = any_signature,
    reasoning_of: Mapping[str, str] | None = None,
) -> None:
    """Check a request as the Responses API does.

    Args:
        body: the request.
        signatures: returns whether the API made an item's encrypted content. Its second
            argument is the item's id.
        reasoning_of: maps the id of an item to the id of the reasoning item that the API put
            before it.

    Raises:
        Refusal: if the API would refuse the body.
    """
    _Responses(signatures, reasoning_of or {}).check(body)


class _Responses(Fields):
    def __init__(self, signatures: Signatures, reasoning_of: Mapping[str, str]) -> None:
        super().__init__("responses")
        self._signatures = signatures
        self._reasoning_of = reasoning_of
        self._ids: set[str] = set()
        self._calls: dict[str, str] = {}
        self._open: dict[str, str] = {}

    def check(self, body: JSON) -> None:
        check_json("responses", body)
        self.keys(body, request_keys("responses"), "")
        self.text(body, "model", "", least=1)
        self._options(body)
        items = body.get("input")
        if not items:
            self.refuse(
                "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation' must "
                "be provided.",
                code="missing_required_parameter",
            )
        if isinstance(items, str):
            return
        for index, item in enumerate(self.array(items, "input")):
            self._item(self.kind(item, "an object", f"input[{index}]"), f"input[{index}]")
        for call_id, kind in self._open.items():
            self.refuse(f"No tool output found for {_ANSWERED[kind][1]} {call_id}.", "input", None)
        self._reasoning(items)

    def _options(self, body: JSON) -> None:
        for key in ("previous_response_id", "conversation"):
            if body.get(key):
                self.refuse(f"Previous response with id '{body[key]}' not found.", key)
        if "stream_options" in body and not body.get("stream"):
            self.refuse(
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
                "stream_options",
                None,
            )
        least = body.get("max_output_tokens")
        if least is not None and self.kind(least, "an integer", "max_output_tokens") < (
            MIN_OUTPUT_TOKENS
        ):
            self.refuse(
                f"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= "
                f"{MIN_OUTPUT_TOKENS}, but got {least} instead.",
                "max_output_tokens",
                "integer_below_min_value",
            )
        tools = self.array(body.get("tools", []), "tools", least=0, most=MAX_TOOLS)
        for index, tool in enumerate(tools):
            path = f"tools[{index}]"
            if self.need(self.kind(tool, "an object", path), "type", path) == "function":
                self.function(tool, path)
        if body.get("instructions") is not None:
            self.kind(body["instructions"], "a string", "instructions")

    def _item(self, item: JSON, path: str) -> None:
        kind = item.get("type")
        if kind is None:
            kind = "message" if "role" in item else "item_reference" if "id" in item else None
        kind = self.choice(kind, sorted(item_keys()), f"{path}.type")
        self.keys(item, item_keys()[kind], path)
        for key, value in item.items():
            if value is None and key not in item_nulls()[kind] and key != "content":
                self.refuse(
                    f"Invalid type for '{path}.{key}': expected another type, but got null "
                    "instead.",
                    f"{path}.{key}",
                    "invalid_type",
                )
        if kind == "item_reference":
            self._not_found(self.text(item, "id", path))
        self._id(item, kind, path)
        match kind:
            case "message":
                self._message(item, path)
            case "function_call":
                self.function_name(item, path)
                self.text(item, "arguments", path)
            case "custom_tool_call":
                self.function_name(item, path)
                self.text(item, "input", path)
            case "reasoning":
                self._reasoning_item(item, path)
            case "compaction":
                self._encrypted(item, path)
            case _:
                pass
        if kind in _ANSWERED:
            self._call(item, kind, path)
        elif kind in _RESULTS:
            self._result(item, kind, path)

    def _not_found(self, item_id: str) -> None:
        self.refuse(
            f"Item with id '{item_id}' not found. Items are not persisted when `store` is set to "
            "false. Try again with `store` set to true, or remove this item from your input.",
            "input",
            None,
        )

    def _id(self, item: JSON, kind: str, path: str) -> None:
        if kind == "reasoning" or item.get("id") is not None:
            item_id = self.text(item, "id", path, most=MAX_ID)
            if not re.fullmatch("[a-zA-Z0-9_-]+", item_id):
                self.refuse(
                    f"Invalid '{path}.id': '{item_id}'. Expected an ID that contains letters, "
                    "numbers, underscores, or dashes, but this value contained additional "
                    "characters.",
                    f"{path}.id",
                )
            prefix = _PREFIX.get(kind, "")
            if not item_id.startswith(prefix):
                self.refuse(
                    f"Invalid '{path}.id': '{item_id}'. Expected an ID that begins with "
                    f"'{prefix}'.",
                    f"{path}.id",
                )
            if item_id in self._ids and kind != "local_shell_call_output":
                self.refuse(
                    f"Duplicate item found with id {item_id}. Remove duplicate items from your "
                    "input and try again.",
                    "input",
                    None,
                )
            self._ids.add(item_id)

    def _message(self, item: JSON, path: str) -> None:
        role = self.choice(self.need(item, "role", path), _ROLES, f"{path}.role")
        content, at = self.need(item, "content", path), f"{path}.content"
        if isinstance(content, str):
            return
        if not isinstance(content, list):
            self.refuse(
                f"Invalid type for '{at}': expected one of an array of objects or string, but got "
                f"{kind_of(content)} instead.",
                at,
                "invalid_type",
            )
        parts = _OUTPUT_PARTS if role == "assistant" else _INPUT_PARTS
        self._parts(content, parts, at)

    def _parts(self, content: list[Any], parts: tuple[str, ...], path: str) -> None:
        for index, part in enumerate(self.array(content, path)):
            at = f"{path}[{index}]"
            inner = self.kind(part, "an object", at)
            kind = self.choice(self.need(inner, "type", at), parts, f"{at}.type")
            self.keys(inner, _PART_KEYS[kind], at)
            match kind:
                case "refusal":
                    self.text(inner, "refusal", at)
                case "input_image":
                    self._image(inner, at)
                case "input_file":
                    self._file(inner, at)
                case _:
                    self.text(inner, "text", at)

    def _image(self, part: JSON, path: str) -> None:
        if part.get("file_id") is not None:
            self.file_id(part["file_id"], f"{path}.file_id")
        else:
            self.image_url(self.text(part, "image_url", path), f"{path}.image_url")
        if part.get("detail") is not None:
            self.choice(part["detail"], ("auto", "low", "high", "original"), f"{path}.detail")

    def _file(self, part: JSON, path: str) -> None:
        if part.get("file_id") is not None:
            self.file_id(part["file_id"], f"{path}.file_id")
        elif part.get("file_url") is not None:
            if not re.match("https?://", self.text(part, "file_url", path)):
                self.refuse(f"Invalid '{path}.file_url'. Expected a URL.", f"{path}.file_url")
        else:
            self.text(part, "filename", path, least=1)
            if not split_data_url(self.text(part, "file_data", path)):
                self.refuse(
                    f"Invalid '{path}.file_data'. Expected a base64-encoded data URL (e.g. "
                    "'data:application/pdf;base64,aW1nIGJ5dGVzIGhlcmU='), but got an invalid "
                    "value.",
                    f"{path}.file_data",
                )

    def _call_id(self, item: JSON, kind: str, path: str) -> str:
        key = "id" if kind == "local_shell_call_output" else "call_id"
        return self.text(item, key, path, least=1, most=MAX_ID)

    def _call(self, item: JSON, kind: str, path: str) -> None:
        call_id = self._call_id(item, kind, path)
        if call_id in self._calls:
            self.refuse(f"Duplicate tool call found with call_id {call_id}.", "input", None)
        self._calls[call_id] = self._open[call_id] = kind

    def _result(self, item: JSON, kind: str, path: str) -> None:
        call_id, (call_kind, name) = self._call_id(item, kind, path), _RESULTS[kind]
        if self._calls.get(call_id) != call_kind:
            self.refuse(
                f"No tool call found for {name} output with call_id {call_id}.", "input", None
            )
        if self._open.pop(call_id, None) is None:
            self.refuse(
                f"Duplicate tool output found for {name} with call_id {call_id}.", "input", None
            )
        if kind not in ("function_call_output", "custom_tool_call_output"):
            return
        output, at = self.need(item, "output", path), f"{path}.output"
        if isinstance(output, list):
            self._parts(output, _INPUT_PARTS, at)
        else:
            self.kind(output, "a string", at)

    def _reasoning_item(self, item: JSON, path: str) -> None:
        at = f"{path}.summary"
        for index, part in enumerate(self.array(self.need(item, "summary", path), at, least=0)):
            inner = self.kind(part, "an object", f"{at}[{index}]")
            self.choice(self.need(inner, "type", at), ("summary_text",), f"{at}[{index}].type")
            self.text(inner, "text", f"{at}[{index}]")
        if "content" in item:
            self.array(item["content"], f"{path}.content", least=0)
        if not item.get("encrypted_content"):
            self._not_found(item["id"])
        self._encrypted(item, path)

    def _encrypted(self, item: JSON, path: str) -> None:
        content = self.text(item, "encrypted_content", path, least=1)
        if not self._signatures(content, item.get("id") or ""):
            self.refuse(
                f"The encrypted content for item {item.get('id')} could not be verified. Reason: "
                "Encrypted content could not be decrypted or parsed.",
                code="invalid_encrypted_content",
            )

    def _reasoning(self, items: list[JSON]) -> None:
        """Check that reasoning directly precedes its item, and that no item lacks its reasoning."""
        before: JSON = {}
        for item in [*items, {"type": "reasoning"}]:
            kind, item_id = item.get("type", "message"), item.get("id")
            needed = self._reasoning_of.get(item_id or "")
            leads = kind not in _OF_CALLERS and item.get("role", "assistant") == "assistant"
            if before.get("type") == "reasoning" and (
                not leads or (needed is not None and needed != before["id"])
            ):
                self.refuse(
                    f"Item '{before['id']}' of type 'reasoning' was provided without its required "
                    "following item.",
                    "input",
                    None,
                )
            if needed is not None and needed != before.get("id"):
                self.refuse(
                    f"Item '{item_id}' of type '{kind}' was provided without its required "
                    f"'reasoning' item: '{needed}'.",
                    "input",
                    None,
                )
            before = item
