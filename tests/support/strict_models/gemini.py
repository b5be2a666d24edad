"""Requests that Gemini's generateContent refuses. It accepts camelCase and snake_case."""

import re
from collections.abc import Collection, Iterator
from typing import Any, NoReturn

from .body import Signatures, any_signature, check_json, decode_base64
from .refusal import JSON, Refusal

MAX_DECLARATIONS = 512
FUNCTION_NAME = r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}"
# Google documents these signatures for calls that other models made.
DUMMY_SIGNATURES = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
_BODY = frozenset(
    [
        "contents",
        "systemInstruction",
        "tools",
        "toolConfig",
        "safetySettings",
        "generationConfig",
        "cachedContent",
        "labels",
        "serviceTier",
        "store",
        "model",
    ]
)
_DATA: dict[str, frozenset[str]] = {
    "inlineData": frozenset({"mimeType", "data", "displayName"}),
    "fileData": frozenset({"mimeType", "fileUri", "displayName"}),
    "functionCall": frozenset({"id", "name", "args"}),
    "functionResponse": frozenset(
        {"id", "name", "response", "parts", "willContinue", "scheduling"}
    ),
    "executableCode": frozenset({"id", "code", "language"}),
    "codeExecutionResult": frozenset({"id", "outcome", "output"}),
    "toolCall": frozenset({"id", "toolType", "args"}),
    "toolResponse": frozenset({"id", "toolType", "response"}),
}
_PART = _DATA.keys() | {
    "text",
    "thought",
    "thoughtSignature",
    "videoMetadata",
    "mediaResolution",
    "partMetadata",
}
_OF_MODELS = {"functionCall", "executableCode", "codeExecutionResult", "toolCall", "toolResponse"}
_MEDIA = re.compile(
    r"image/(png|jpeg|webp|heic|heif)|audio/.+|video/.+|application/pdf|text/.+", re.IGNORECASE
)
_NO_SIGNATURES = re.compile("gemini-(1|2)|gemma")


def validate_gemini(
    body: JSON, *, model: str = "gemini-3-pro", signatures: Signatures = any_signature
) -> None:
    """Check a request as generateContent does.

    Args:
        body: the request.
        model: the model, which the path of the request names.
        signatures: returns whether the API made a thought signature. The signed text is "".

    Raises:
        Refusal: if the API would refuse the body.
    """
    _Gemini(model, signatures).check(body)


def _refuse(message: str) -> NoReturn:
    raise Refusal("gemini", message)


def _camel(key: str) -> str:
    first, *rest = key.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _fields(holder: Any, known: Collection[str], path: str) -> JSON:
    """Return the fields of an object under their camelCase names."""
    if not isinstance(holder, dict):
        _refuse(f"Invalid value at '{path}', an object is required")
    fields: JSON = {}
    for key, value in holder.items():
        name = _camel(key)
        if name not in known or name in fields:
            at = f" at '{path}'" if path else ""
            _refuse(f'Invalid JSON payload received. Unknown name "{key}"{at}: Cannot find field.')
        if value is not None:
            fields[name] = value
    return fields


def _items(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        _refuse(f"Invalid value at '{path}', a list is required")
    return value


class _Gemini:
    def __init__(self, model: str, signatures: Signatures) -> None:
        self._model = model
        self._signatures = signatures

    def check(self, body: JSON) -> None:
        check_json("gemini", body)
        fields = _fields(body, _BODY, "")
        contents = _items(fields.get("contents", []), "contents")
        if not contents:
            _refuse("* GenerateContentRequest.contents: contents is not specified\n")
        if "systemInstruction" in fields:
            self._instruction(fields["systemInstruction"])
        self._tools(fields.get("tools", []))
        turns = [self._content(content, index) for index, content in enumerate(contents)]
        self._roles(turns)
        self._pairs(turns)
        if not _NO_SIGNATURES.match(self._model):
            self._signed_calls(turns)

    def _instruction(self, value: Any) -> None:
        fields = _fields(value, ("role", "parts"), "system_instruction")
        parts = _items(fields.get("parts", []), "system_instruction.parts")
        if not parts:
            _refuse(
                "* GenerateContentRequest.system_instruction.parts: contents.parts must not be "
                "empty.\n"
            )
        for index, part in enumerate(parts):
            path = f"system_instruction.parts[{index}]"
            if "text" not in self._part(part, "system", path):
                _refuse(f"* GenerateContentRequest.{path}: only text is supported\n")

    def _tools(self, tools: Any) -> None:
        names: list[str] = []
        for index, tool in enumerate(_items(tools, "tools")):
            if not isinstance(tool, dict) or not tool:
                _refuse(f"* GenerateContentRequest.tools[{index}].tool_type: required one_of\n")
            declared: Any = next(
                (v for key, v in tool.items() if _camel(key) == "functionDeclarations"), []
            )
            for place, function in enumerate(_items(declared, f"tools[{index}]")):
                if not isinstance(function, dict):
                    _refuse(f"Invalid value at 'tools[{index}]', an object is required")
                path = f"tools[{index}].function_declarations[{place}].name"
                self._name(function.get("name"), path)
                if function["name"] in names:
                    _refuse(f"Duplicate function declaration found: {function['name']}")
                names.append(function["name"])
        if len(names) > MAX_DECLARATIONS:
            _refuse(f"The number of function declarations must be at most {MAX_DECLARATIONS}.")

    def _name(self, name: Any, path: str) -> None:
        if not name:
            _refuse(f"* GenerateContentRequest.{path}: Name cannot be empty.\n")
        if not isinstance(name, str):
            _refuse(f"Invalid value at '{path}' (TYPE_STRING)")
        if not re.fullmatch(FUNCTION_NAME, name):
            _refuse(
                f"* GenerateContentRequest.{path}: [FIELD_INVALID] Invalid function name. Must "
                "start with a letter or an underscore. Must be alphanumeric (a-z, A-Z, 0-9), "
                "underscores (_), dots (.), colons (:), or dashes (-), with a maximum length of "
                "128.\n"
            )

    def _content(self, content: Any, index: int) -> tuple[str, list[JSON]]:
        """Check a content. Returns its role and its parts, under their camelCase names."""
        path = f"contents[{index}]"
        fields = _fields(content, ("role", "parts"), path)
        role = fields.get("role")
        if role not in ("user", "model"):
            _refuse("Please use a valid role: user, model.")
        parts = _items(fields.get("parts", []), f"{path}.parts")
        if not parts:
            _refuse(f"* GenerateContentRequest.{path}.parts: contents.parts must not be empty.\n")
        return role, [
            self._part(part, role, f"{path}.parts[{place}]") for place, part in enumerate(parts)
        ]

    def _part(self, part: Any, role: str, path: str) -> JSON:
        fields = _fields(part, _PART, path)
        data = [key for key in fields if key in _DATA or key == "text"]
        if len(data) > 1:
            _refuse(
                f"Invalid value at '{path}' (oneof), oneof field 'data' is already set. Cannot set "
                f"'{data[1]}'"
            )
        signature = fields.get("thoughtSignature")
        if signature is not None:
            self._signature(signature, path)
        if not data:
            _refuse(
                f"* GenerateContentRequest.{path}.data: required oneof field 'data' must have one "
                "initialized field\n"
            )
        kind = data[0]
        if kind == "text":
            self._text(fields, path)
            return fields
        if kind in _OF_MODELS and role != "model":
            _refuse(f"* GenerateContentRequest.{path}: `{kind}` is only allowed in a model turn\n")
        if kind == "functionResponse" and role != "user":
            _refuse(
                "Please ensure that function response turn comes immediately after a function call "
                "turn."
            )
        inner = _fields(fields[kind], _DATA[kind], f"{path}.{kind}")
        if not isinstance(inner.get("id", ""), str):
            _refuse(f"Invalid value at '{path}.{kind}.id' (TYPE_STRING)")
        match kind:
            case "inlineData":
                self._inline(inner, f"{path}.inline_data")
            case "fileData":
                self._file(inner, f"{path}.file_data")
            case "functionCall":
                self._name(inner.get("name"), f"{path}.function_call.name")
                self._struct(inner.get("args", {}), f"{path}.function_call.args")
            case "functionResponse":
                at = f"{path}.function_response"
                self._name(inner.get("name"), f"{at}.name")
                self._struct(inner.get("response"), f"{at}.response")
                for place, media in enumerate(_items(inner.get("parts", []), f"{at}.parts")):
                    self._media_of_result(media, f"{at}.parts[{place}]")
            case _:
                pass
        return {**fields, kind: inner}

    def _text(self, fields: JSON, path: str) -> None:
        text = fields["text"]
        if not isinstance(text, str):
            _refuse(f"Invalid value at '{path}.text' (TYPE_STRING)")
        # The last part of an answer may be empty if it has a signature.
        if not text.strip() and "thoughtSignature" not in fields:
            _refuse(
                "Unable to submit request because it must have a text parameter that is not empty "
                f"({path})."
                if text
                else f"* GenerateContentRequest.{path}.data: required oneof field 'data' must have "
                "one initialized field\n"
            )

    def _signature(self, signature: Any, path: str) -> None:
        standard = str(signature).replace("-", "+").replace("_", "/")
        decoded = decode_base64(standard)
        if not isinstance(signature, str) or decoded is None:
            _refuse(
                f"Invalid value at '{path}.thought_signature' (TYPE_BYTES), Base64 decoding failed "
                f'for "{signature}"'
            )
        if (
            signature not in DUMMY_SIGNATURES
            and decoded not in [dummy.encode() for dummy in DUMMY_SIGNATURES]
            and not self._signatures(signature, "")
        ):
            _refuse("Thought signature is not valid.")

    def _inline(self, blob: JSON, path: str) -> None:
        media_type = blob.get("mimeType")
        if not isinstance(media_type, str) or not media_type:
            _refuse(f"* GenerateContentRequest.{path}.mime_type: must be set\n")
        if not _MEDIA.fullmatch(media_type):
            _refuse(f"Unsupported MIME type: {media_type}")
        data = str(blob.get("data") or "").replace("-", "+").replace("_", "/")
        if decode_base64(data) is None:
            _refuse(f"Invalid value at '{path}.data' (TYPE_BYTES), Base64 decoding failed")

    def _file(self, file: JSON, path: str) -> None:
        if not re.match("https://|gs://|files/", str(file.get("fileUri"))):
            _refuse(f"* GenerateContentRequest.{path}: Invalid or unsupported file uri\n")

    def _media_of_result(self, part: Any, path: str) -> None:
        fields = _fields(part, ("inlineData", "fileData"), path)
        if "inlineData" in fields:
            inner = _fields(fields["inlineData"], _DATA["inlineData"], f"{path}.inlineData")
            self._inline(inner, f"{path}.inline_data")

    def _struct(self, value: Any, path: str) -> None:
        if not isinstance(value, dict):
            _refuse(
                f"Invalid value at '{path}' (type.googleapis.com/google.protobuf.Struct), {value!r}"
            )

    def _roles(self, turns: list[tuple[str, list[JSON]]]) -> None:
        for index, (role, parts) in enumerate(turns):
            if role == ("user", "model")[index % 2]:
                continue
            if any("functionCall" in part for part in parts):
                _refuse(
                    "Please ensure that function call turn comes immediately after a user turn or "
                    "after a function response turn."
                )
            _refuse("Please ensure that multiturn requests alternate between user and model.")
        if turns[-1][0] != "user":
            _refuse(
                "Please ensure that multiturn requests end with a user role or a function response."
            )

    def _pairs(self, turns: list[tuple[str, list[JSON]]]) -> None:
        """Check that each call has its result in the next content, in the order of the calls."""
        calls: list[JSON] = []
        for _, parts in turns:
            results = [part["functionResponse"] for part in parts if "functionResponse" in part]
            if results and not calls:
                _refuse(
                    "Please ensure that function response turn comes immediately after a function "
                    "call turn."
                )
            if len(results) != len(calls):
                _refuse(
                    "Please ensure that the number of function response parts is equal to the "
                    "number of function call parts of the function call turn."
                )
            if any("functionResponse" not in part for part in parts[: len(results)]):
                _refuse(
                    "Please ensure that function response turn starts with its function response "
                    "parts."
                )
            for call, result in zip(calls, results, strict=True):
                if (call["name"], call.get("id")) != (result["name"], result.get("id")):
                    _refuse(
                        "Please ensure that function response parts have the names, ids and order "
                        f"of the function call parts: {call['name']} was called, "
                        f"{result['name']} was answered."
                    )
            calls = [part["functionCall"] for part in parts if "functionCall" in part]
            ids = [call["id"] for call in calls if call.get("id")]
            if len(set(ids)) < len(ids):
                _refuse("Please ensure that function call ids are unique.")

    def _signed_calls(self, turns: list[tuple[str, list[JSON]]]) -> None:
        """Check that the first call of each step of the current turn has its signature."""
        for index, call in _first_calls(turns):
            if "thoughtSignature" not in call:
                _refuse(
                    "Function call is missing a thought_signature in functionCall parts. This is "
                    "required for tools to work correctly, and missing thought_signature may lead "
                    "to degraded model performance. Additional data, function call "
                    f"`default_api:{call['functionCall']['name']}` , position {index + 1}. Please "
                    "refer to https://ai.google.dev/gemini-api/docs/thought-signatures for more "
                    "details."
                )


def _first_calls(turns: list[tuple[str, list[JSON]]]) -> Iterator[tuple[int, JSON]]:
    """Yield the first call of each step since the newest prompt, and the index of its content.

    A content with results continues the turn, even if a prompt follows them.
    """
    start = max(
        index
        for index, (role, parts) in enumerate(turns)
        if role == "user" and not any("functionResponse" in part for part in parts)
    )
    for index in range(start + 1, len(turns)):
        calls = [part for part in turns[index][1] if "functionCall" in part]
        if calls:
            yield index, calls[0]
