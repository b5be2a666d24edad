"""The items of the Responses API that can be sent, and the shapes that the API accepts."""

from collections.abc import Mapping

from sessiond_server.dialects.shapes import (
    BOOLEAN,
    INTEGER,
    OBJECT,
    STRING,
    Misfit,
    Shape,
    anything,
    either,
    filled,
    list_of,
    nullable,
    of_type,
    one_of,
    record,
)
from sessiond_server.formats.pieces import JSON

_TEXT = nullable(STRING)
_NUMBER = of_type(int, float)
_STATUS = one_of("in_progress", "completed", "incomplete")
_TOOL_STATUS = one_of("in_progress", "searching", "completed", "incomplete", "failed")
_CALLER = nullable(either(record("direct", {}), record("program", {"caller_id": STRING})))

CACHE_MARKER = record("", {"mode": one_of("explicit")}, {"ttl": one_of("30m", "12h")})
_SPAN = {"start_index": INTEGER, "end_index": INTEGER}
_ANNOTATION = either(
    record("file_citation", {"file_id": STRING, "filename": STRING, "index": INTEGER}),
    record("url_citation", {**_SPAN, "title": STRING, "url": STRING}),
    record(
        "container_file_citation",
        {**_SPAN, "container_id": STRING, "file_id": STRING, "filename": STRING},
    ),
    record("file_path", {"file_id": STRING, "index": INTEGER}),
)
_PROBABILITY = {"token": STRING, "bytes": list_of(INTEGER), "logprob": _NUMBER}
_PROBABILITIES = record("", {**_PROBABILITY, "top_logprobs": list_of(record("", _PROBABILITY))})
# A text of the model's answer.
OUTPUT_TEXT = record(
    "output_text",
    {"text": STRING},
    {"annotations": list_of(_ANNOTATION, omits=True), "logprobs": list_of(_PROBABILITIES)},
)

_SAFETY_CHECKS = list_of(record("", {"id": STRING}, {"code": _TEXT, "message": _TEXT}))
_KEYS = {"keys": nullable(list_of(STRING))}
_POINT = {"x": INTEGER, "y": INTEGER}
_COMPUTER_ACTION = either(
    record(
        "click",
        {**_POINT, "button": one_of("left", "right", "wheel", "back", "forward")},
        _KEYS,
    ),
    record("double_click", {**_POINT, **_KEYS}),
    record("drag", {"path": list_of(record("", _POINT))}, _KEYS),
    record("keypress", {"keys": list_of(STRING)}),
    record("move", _POINT, _KEYS),
    record("screenshot", {}),
    record("scroll", {**_POINT, "scroll_x": INTEGER, "scroll_y": INTEGER}, _KEYS),
    record("type", {"text": STRING}),
    record("wait", {}),
)
_SKILL = record("", {"description": STRING, "name": STRING, "path": STRING})
_ENVIRONMENT = either(
    record("local", {}, {"skills": list_of(_SKILL)}),
    record("container_reference", {"container_id": STRING}),
)
_SHELL_OUTPUT = record(
    "",
    {
        "outcome": either(record("timeout", {}), record("exit", {"exit_code": INTEGER})),
        "stdout": STRING,
        "stderr": STRING,
    },
)
_PATCH = either(
    record("create_file", {"diff": STRING, "path": STRING}),
    record("delete_file", {"path": STRING}),
    record("update_file", {"diff": STRING, "path": STRING}),
)
_SEARCH = either(
    record(
        "search",
        {},
        {
            "query": STRING,
            "queries": list_of(STRING),
            "sources": list_of(record("url", {"url": STRING})),
        },
    ),
    record("open_page", {}, {"url": _TEXT}),
    record("find_in_page", {"pattern": STRING, "url": STRING}),
)
_FOUND = record(
    "",
    {},
    {
        "attributes": nullable(OBJECT),
        "file_id": STRING,
        "filename": STRING,
        "score": _NUMBER,
        "text": STRING,
    },
)
_CODE_OUTPUT = either(record("logs", {"logs": STRING}), record("image", {"url": STRING}))
_MCP_ERROR = either(
    record("mcp_protocol_error", {"code": INTEGER, "message": STRING}),
    record("mcp_tool_execution_error", {"content": anything}),
    record("http_error", {"code": INTEGER, "message": STRING}),
)
_MCP_TOOL = record(
    "",
    {"input_schema": anything, "name": STRING},
    {"annotations": anything, "description": _TEXT},
)
_MCP = {"arguments": STRING, "name": STRING, "server_label": STRING}
_CALL = {"id": STRING, "namespace": STRING, "caller": _CALLER, "async": BOOLEAN}

# The shapes of items, by their types. Messages, and the outputs of functions, are checked where
# they are written. Items of other types are not sent.
_ITEMS: Mapping[str, Shape] = {
    "function_call": record(
        "function_call",
        {"call_id": STRING, "name": STRING, "arguments": anything},
        {**_CALL, "status": _STATUS},
    ),
    "custom_tool_call": record(
        "custom_tool_call", {"call_id": STRING, "name": STRING, "input": anything}, _CALL
    ),
    "function_call_output": record(
        "function_call_output",
        {"output": anything},
        {
            **dict.fromkeys(("id", "call_id", "name", "namespace"), _TEXT),
            "status": nullable(_STATUS),
            "caller": _CALLER,
        },
    ),
    "custom_tool_call_output": record(
        "custom_tool_call_output",
        {"call_id": STRING, "output": anything},
        {"id": STRING, "caller": _CALLER},
    ),
    "reasoning": record(
        "reasoning",
        {"id": STRING, "encrypted_content": filled},
        {"summary": anything, "content": anything, "status": _STATUS},
    ),
    "computer_call": record(
        "computer_call",
        {"id": STRING, "call_id": STRING, "pending_safety_checks": _SAFETY_CHECKS}
        | {"status": _STATUS},
        {"action": _COMPUTER_ACTION, "actions": list_of(_COMPUTER_ACTION, may_be_empty=False)},
    ),
    "computer_call_output": record(
        "computer_call_output",
        {"call_id": STRING, "output": OBJECT},
        {
            "id": _TEXT,
            "status": nullable(_STATUS),
            "acknowledged_safety_checks": nullable(_SAFETY_CHECKS),
        },
    ),
    "local_shell_call": record(
        "local_shell_call",
        {
            "id": STRING,
            "call_id": STRING,
            "status": _STATUS,
            "action": record(
                "exec",
                {"command": list_of(STRING), "env": OBJECT},
                {"timeout_ms": nullable(INTEGER), "user": _TEXT, "working_directory": _TEXT},
            ),
        },
    ),
    "local_shell_call_output": record(
        "local_shell_call_output", {"id": STRING, "output": STRING}, {"status": nullable(_STATUS)}
    ),
    "shell_call": record(
        "shell_call",
        {
            "call_id": STRING,
            "action": record(
                "",
                {"commands": list_of(STRING)},
                {"max_output_length": nullable(INTEGER), "timeout_ms": nullable(INTEGER)},
            ),
        },
        {
            "id": _TEXT,
            "status": nullable(_STATUS),
            "caller": _CALLER,
            "environment": nullable(_ENVIRONMENT),
        },
    ),
    "shell_call_output": record(
        "shell_call_output",
        {"call_id": STRING, "output": list_of(_SHELL_OUTPUT)},
        {
            "id": _TEXT,
            "status": nullable(_STATUS),
            "caller": _CALLER,
            "max_output_length": nullable(INTEGER),
        },
    ),
    "apply_patch_call": record(
        "apply_patch_call",
        {"call_id": STRING, "operation": _PATCH, "status": one_of("in_progress", "completed")},
        {"id": _TEXT, "caller": _CALLER},
    ),
    "apply_patch_call_output": record(
        "apply_patch_call_output",
        {"call_id": STRING, "status": one_of("completed", "failed")},
        {"id": _TEXT, "output": _TEXT, "caller": _CALLER},
    ),
    "web_search_call": record(
        "web_search_call", {"id": STRING, "action": _SEARCH, "status": _TOOL_STATUS}
    ),
    "file_search_call": record(
        "file_search_call",
        {"id": STRING, "queries": list_of(STRING), "status": _TOOL_STATUS},
        {"results": nullable(list_of(_FOUND))},
    ),
    "code_interpreter_call": record(
        "code_interpreter_call",
        {
            "id": STRING,
            "code": _TEXT,
            "container_id": STRING,
            "outputs": nullable(list_of(_CODE_OUTPUT)),
            "status": one_of("in_progress", "completed", "incomplete", "interpreting", "failed"),
        },
    ),
    "image_generation_call": record(
        "image_generation_call",
        {
            "id": STRING,
            "result": _TEXT,
            "status": one_of("in_progress", "completed", "generating", "failed"),
        },
        {
            "action": nullable(one_of("generate", "edit", "auto")),
            "background": nullable(one_of("transparent", "opaque", "auto")),
            "output_format": nullable(one_of("png", "webp", "jpeg", "gif", "svg")),
            "quality": nullable(one_of("low", "medium", "high", "xhigh", "max", "auto")),
            "revised_prompt": _TEXT,
            "size": _TEXT,
        },
    ),
    "mcp_list_tools": record(
        "mcp_list_tools",
        {"id": STRING, "server_label": STRING, "tools": list_of(_MCP_TOOL)},
        {"error": _TEXT},
    ),
    "mcp_call": record(
        "mcp_call",
        {"id": STRING, **_MCP},
        {
            "approval_request_id": _TEXT,
            "error": nullable(_MCP_ERROR),
            "output": _TEXT,
            "status": one_of("in_progress", "completed", "incomplete", "calling", "failed"),
        },
    ),
    "mcp_approval_request": record("mcp_approval_request", {"id": STRING, **_MCP}),
    "mcp_approval_response": record(
        "mcp_approval_response",
        {"approval_request_id": filled, "approve": BOOLEAN},
        {"id": _TEXT, "reason": _TEXT},
    ),
    "compaction": record("compaction", {"encrypted_content": filled}, {"id": _TEXT}),
}
# Types of items that are neither calls nor results of the caller's tools.
STANDALONE = {
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "image_generation_call",
    "mcp_list_tools",
    "mcp_call",
    "mcp_approval_request",
    "mcp_approval_response",
    "compaction",
}
# The prefixes of the ids of items.
ID_PREFIXES = {
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
# The types of items whose ids the API ties to the reasoning that precedes them.
LINKED = {
    "message",
    "function_call",
    "custom_tool_call",
    "computer_call",
    "local_shell_call",
    "shell_call",
    "apply_patch_call",
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "image_generation_call",
    "mcp_call",
    "mcp_approval_request",
}
# The actions that cannot be sent without their ids.
NEEDS_ID = {"computer_call", "local_shell_call"}
PHASES = ("commentary", "final_answer")
STATUSES = ("in_progress", "completed", "incomplete")


def fitted(item: JSON) -> JSON | None:
    """Return an item in the shape that the API accepts. None = the API accepts none of it."""
    shape = _ITEMS.get(str(item.get("type")))
    return fit(shape, item) if shape else None


def fit(shape: Shape, value: object) -> JSON | None:
    """Return the parts of an object that fit a shape. None = a required part does not fit."""
    try:
        kept: JSON = shape(value, "", _ignore)
    except Misfit:
        return None
    return kept


def _ignore(path: str) -> None:
    """Ignore parts that are left out: a comparison with the stored message finds them."""
