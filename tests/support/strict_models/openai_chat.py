"""Requests that OpenAI's, Groq's and DeepSeek's servers of Chat Completions refuse."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .body import check_json, decode_base64, split_data_url
from .fields import MAX_TOOLS, Fields
from .refusal import JSON, Api, Refusal
from .sdk_types import COMPATIBLE_KEYS, UNTYPED_KEYS, message_keys, request_keys

MAX_MESSAGES = 2048
MAX_CALLS = 128
SPEAKER = r"^[^\s<|\\/>]+$"
_TEXT = ("text",)
_ALL_PARTS = ("text", "image_url", "input_audio", "file")
_PART_KEYS: Mapping[str, frozenset[str]] = {
    "text": frozenset({"type", "text", "prompt_cache_breakpoint"}),
    "image_url": frozenset({"type", "image_url", "prompt_cache_breakpoint"}),
    "input_audio": frozenset({"type", "input_audio", "prompt_cache_breakpoint"}),
    "file": frozenset({"type", "file", "prompt_cache_breakpoint"}),
    "refusal": frozenset({"type", "refusal"}),
}


@dataclass(frozen=True)
class ChatRules:
    """The rules by which servers of the protocol differ.

    Attributes:
        api: the server.
        roles: the roles that it knows.
        user_parts: the types of content parts that it accepts from users.
        max_id: the maximum length of a call's id. 0 = none.
        refuses_keys: whether it refuses keys of messages and calls that it does not know.
        needs_reasoning: whether answers with calls need their reasoning while thinking is on.
        refuses_prefill: whether the newest message may not be the assistant's.
    """

    api: Api
    roles: tuple[str, ...] = ("system", "assistant", "user", "function", "tool", "developer")
    user_parts: tuple[str, ...] = _ALL_PARTS
    max_id: int = 0
    refuses_keys: bool = True
    needs_reasoning: bool = False
    refuses_prefill: bool = False


OPENAI = ChatRules("openai", max_id=40)
GROQ = ChatRules(
    "groq",
    roles=("system", "user", "assistant", "tool", "function"),
    user_parts=("text", "image_url"),
)
DEEPSEEK = ChatRules(
    "deepseek",
    roles=("system", "user", "assistant", "tool"),
    user_parts=_TEXT,
    refuses_keys=False,
    needs_reasoning=True,
    refuses_prefill=True,
)


def validate_openai_chat(body: JSON) -> None:
    """Check a request as OpenAI's Chat Completions does.

    Raises:
        Refusal: if the API would refuse the body.
    """
    _Chat(OPENAI).check(body)


def validate_groq(body: JSON) -> None:
    """Check a request as a server like Groq's does, which refuses every undocumented key.

    Raises:
        Refusal: if the server would refuse it.
    """
    _Chat(GROQ).check(body)


def validate_deepseek(body: JSON) -> None:
    """Check a request as a server like DeepSeek's does, whose models think by default.

    Raises:
        Refusal: if the server would refuse it.
    """
    _Chat(DEEPSEEK).check(body)


@dataclass
class _OpenCalls:
    """The calls of the newest assistant message that have no result yet."""

    ids: list[str] = field(default_factory=list)
    at: int = 0


class _Chat(Fields):
    def __init__(self, rules: ChatRules) -> None:
        super().__init__(rules.api)
        self._rules = rules
        self._used: set[str] = set()
        self._open = _OpenCalls()
        self._called: list[str] = []

    def check(self, body: JSON) -> None:
        check_json(self.api, body)
        self._body_keys(body)
        self.text(body, "model", "", least=1)
        messages = self.array(self.need(body, "messages", ""), "messages", most=MAX_MESSAGES)
        self._options(body)
        thinks = self._thinks(body)
        for index, message in enumerate(messages):
            self._message(self.kind(message, "an object", f"messages[{index}]"), index, thinks)
        self._close()
        last = messages[-1]
        if self._rules.refuses_prefill and last["role"] == "assistant" and not last.get("prefix"):
            self.refuse(
                "The last message must be a user message, or an assistant message with prefix mode "
                "on (refer to https://api-docs.deepseek.com/guides/chat_prefix_completion).",
                code="invalid_request_error",
            )

    def _body_keys(self, body: JSON) -> None:
        known = request_keys("openai") | COMPATIBLE_KEYS.get(self.api, frozenset())
        for key in body if self._rules.refuses_keys else ():
            if key not in known:
                message = (
                    f"property '{key}' is unsupported"
                    if self.api == "groq"
                    else f"Unrecognized request argument supplied: {key}"
                )
                self.refuse(message, code=None)

    def _options(self, body: JSON) -> None:
        if "tools" in body:
            for index, tool in enumerate(self.array(body["tools"], "tools", most=MAX_TOOLS)):
                self._tool(self.kind(tool, "an object", f"tools[{index}]"), f"tools[{index}]")
        else:
            for key in ("tool_choice", "parallel_tool_calls"):
                if key in body:
                    self.refuse(f"'{key}' is only allowed when 'tools' are specified.", key, None)
        if "stream_options" in body and not body.get("stream"):
            self.refuse(
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
                "stream_options",
                None,
            )

    def _tool(self, tool: JSON, path: str) -> None:
        kind = self.choice(self.need(tool, "type", path), ("function", "custom"), f"{path}.type")
        inner = self.kind(self.need(tool, kind, path), "an object", f"{path}.{kind}")
        if kind == "function":
            self.function(inner, f"{path}.function")
        else:
            self.function_name(inner, f"{path}.custom")

    def _thinks(self, body: JSON) -> bool:
        """Return whether thinking is on.

        If the request does not say, it is on, except for models whose names end in "-chat".
        """
        thinking = body.get("thinking")
        disabled = isinstance(thinking, dict) and thinking.get("type") == "disabled"
        return (
            self._rules.needs_reasoning
            and not disabled
            and not (thinking is None and str(body["model"]).endswith("-chat"))
        )

    def _message(self, message: JSON, index: int, thinks: bool) -> None:
        path = f"messages[{index}]"
        role = self._role(message, index)
        self._message_keys(message, role, index)
        if "name" in message and role != "tool":
            name = self.text(message, "name", path, least=1, most=64)
            self.pattern(name, SPEAKER, f"{path}.name")
        if role == "tool":
            self._result(message, index)
            return
        self._close()
        if role == "assistant":
            self._assistant(message, index)
            if thinks and self._called and not isinstance(message.get("reasoning_content"), str):
                self.refuse(
                    "The `reasoning_content` in the thinking mode must be passed back to the API.",
                    code="invalid_request_error",
                )
        elif role == "function":
            if self.need(message, "content", path) is not None:
                self.kind(message["content"], "a string", f"{path}.content")
            self.need(message, "name", path)
        else:
            self._content(message, self._rules.user_parts if role == "user" else _TEXT, path)

    def _role(self, message: JSON, index: int) -> str:
        roles, role = self._rules.roles, message.get("role")
        if role in roles:
            return str(role)
        if self.api == "groq":
            self.refuse(f"'messages.{index}' : discriminator property 'role' has invalid value")
        if self.api == "deepseek":
            names = ", ".join(f"`{name}`" for name in roles)
            self.refuse(
                "Failed to deserialize the JSON body into the target type: "
                f"messages[{index}].role: unknown variant `{role}`, expected one of {names}",
                code="invalid_request_error",
            )
        path = f"messages[{index}]"
        return self.choice(self.need(message, "role", path), roles, f"{path}.role")

    def _message_keys(self, message: JSON, role: str, index: int) -> None:
        if not self._rules.refuses_keys:
            return
        known = message_keys()[role] | UNTYPED_KEYS.get(role, frozenset())
        if self.api == "groq":
            known -= {"refusal", "audio", "annotations"}
        for key in message:
            if key in known:
                continue
            if self.api == "groq":
                at = f"'messages.{index}'"
                self.refuse(
                    f"{at} : for 'role:{role}' the following must be satisfied[({at} : property "
                    f"'{key}' is unsupported)]"
                )
            self.keys(message, known, f"messages[{index}]")

    def _content(self, message: JSON, parts: tuple[str, ...], path: str) -> None:
        content, at = self.need(message, "content", path), f"{path}.content"
        if content is None:
            self.refuse("Invalid value for 'content': expected a string, got null.", at, None)
        if isinstance(content, str):
            return
        for index, part in enumerate(self.array(content, at)):
            self._part(self.kind(part, "an object", f"{at}[{index}]"), parts, f"{at}[{index}]")

    def _part(self, part: JSON, parts: tuple[str, ...], path: str) -> None:
        kind = self.need(part, "type", path)
        if self.api == "deepseek" and kind not in parts:
            self.refuse(
                "Failed to deserialize the JSON body into the target type: "
                f"{path}: unknown variant `{kind}`, expected `text`",
                code="invalid_request_error",
            )
        kind = self.choice(kind, parts, f"{path}.type")
        if self._rules.refuses_keys:
            self.keys(part, _PART_KEYS[kind], path)
        if kind in ("text", "refusal"):
            self.text(part, kind, path)
            return
        inner = self.kind(self.need(part, kind, path), "an object", f"{path}.{kind}")
        at = f"{path}.{kind}"
        if kind == "image_url":
            self.image_url(self.text(inner, "url", at, least=1), f"{at}.url")
            if "detail" in inner:
                self.choice(inner["detail"], ("auto", "low", "high", "original"), f"{at}.detail")
        elif kind == "input_audio":
            self.choice(self.need(inner, "format", at), ("wav", "mp3"), f"{at}.format")
            if decode_base64(self.need(inner, "data", at)) is None:
                self.refuse(f"Invalid '{at}.data'. Expected base64-encoded audio.", f"{at}.data")
        else:
            self._file(inner, at)

    def _file(self, file: JSON, path: str) -> None:
        if "file_id" in file or not {"file_data", "filename"} <= file.keys():
            self.file_id(self.need(file, "file_id", path), f"{path}.file_id")
            return
        parts = split_data_url(self.text(file, "file_data", path))
        if not parts or parts[0] != "application/pdf":
            given = f"unsupported MIME type '{parts[0]}'" if parts else "an invalid value"
            self.refuse(
                f"Invalid '{path}.file_data'. Expected a base64-encoded data URL with an "
                "application/pdf MIME type (e.g. "
                f"'data:application/pdf;base64,aW1nIGJ5dGVzIGhlcmU='), but got {given}.",
                f"{path}.file_data",
            )

    def _assistant(self, message: JSON, index: int) -> None:
        path = f"messages[{index}]"
        self._called = []
        for key, kind in (("tool_calls", "an array"), ("function_call", "an object")):
            if key in message:
                self.kind(message[key], kind, f"{path}.{key}")
        if "audio" in message:
            self.text(
                self.kind(message["audio"], "an object", f"{path}.audio"), "id", f"{path}.audio"
            )
        says_more = any(
            message.get(key) for key in ("tool_calls", "function_call", "refusal", "audio")
        )
        if "tool_calls" in message:
            self._calls(message["tool_calls"], index)
        if message.get("function_call"):
            call = message["function_call"]
            self.function_name(call, f"{path}.function_call")
            self.text(call, "arguments", f"{path}.function_call")
        if message.get("content") is not None or not says_more:
            self._content({"content": None} | message, ("text", "refusal"), path)

    def _calls(self, calls: Any, index: int) -> None:
        path = f"messages[{index}].tool_calls"
        for place, call in enumerate(self.array(calls, path, most=MAX_CALLS)):
            at = f"{path}[{place}]"
            self._call(self.kind(call, "an object", at), at, index)
        self._open = _OpenCalls(list(self._called), index)

    def _call(self, call: JSON, path: str, index: int) -> None:
        call_id = self.text(call, "id", path, least=1, most=self._rules.max_id)
        kind = self.choice(self.need(call, "type", path), ("function", "custom"), f"{path}.type")
        if self._rules.refuses_keys:
            self.keys(call, ("id", "type", kind), path)
        inner = self.kind(self.need(call, kind, path), "an object", f"{path}.{kind}")
        self.function_name(inner, f"{path}.{kind}")
        self.text(inner, "arguments" if kind == "function" else "input", f"{path}.{kind}")
        if call_id in self._used:
            self.refuse(
                f"Duplicate value for 'tool_call_id' of '{call_id}' in message[{index}].",
                path,
                None,
            )
        self._used.add(call_id)
        self._called.append(call_id)

    def _result(self, message: JSON, index: int) -> None:
        path = f"messages[{index}]"
        call_id = self.text(message, "tool_call_id", path, least=1, most=self._rules.max_id)
        if not self._called:
            self.refuse(
                "Invalid parameter: messages with role 'tool' must be a response to a preceeding "
                "message with 'tool_calls'.",
                f"messages.[{index}].role",
                None,
            )
        if call_id not in self._called:
            self.refuse(
                f"Invalid parameter: 'tool_call_id' of '{call_id}' not found in 'tool_calls' of "
                "previous message.",
                f"messages.[{index}].tool_call_id",
                None,
            )
        if call_id not in self._open.ids:
            self.refuse(
                f"Duplicate value for 'tool_call_id' of '{call_id}' in message[{index}].",
                f"messages.[{index}].tool_call_id",
                None,
            )
        self._open.ids.remove(call_id)
        self._content(message, _TEXT, path)

    def _close(self) -> None:
        """Refuse the request if a call has no result."""
        self._called = []
        if not self._open.ids:
            return
        missing = (
            "(insufficient tool messages following tool_calls message)"
            if self.api == "deepseek"
            else "The following tool_call_ids did not have response messages: "
            + ", ".join(self._open.ids)
        )
        raise Refusal(
            self.api,
            "An assistant message with 'tool_calls' must be followed by tool messages responding "
            f"to each 'tool_call_id'. {missing}",
            param=f"messages.[{self._open.at}].role",
        )
