"""The shapes of the content blocks that Anthropic's Messages API accepts.

Blocks of beta versions (of MCP servers, of compaction) are not among them: the API accepts those
only from clients that ask for the beta version.
"""

from collections.abc import Mapping

from sessiond_server.dialects.shapes import (
    BOOLEAN,
    INTEGER,
    OBJECT,
    STRING,
    Shape,
    anything,
    either,
    filled,
    list_of,
    nullable,
    one_of,
    record,
)

CACHE_MARKER = record("ephemeral", {}, {"ttl": one_of("5m", "1h")})
_MARKED = {"cache_control": nullable(CACHE_MARKER)}
_NULLABLE_STRING = nullable(STRING)
_NULLABLE_INTEGER = nullable(INTEGER)

_CITED = {"cited_text": STRING, "document_index": INTEGER, "document_title": _NULLABLE_STRING}
_CITATION = either(
    record("char_location", {**_CITED, "start_char_index": INTEGER, "end_char_index": INTEGER}),
    record("page_location", {**_CITED, "start_page_number": INTEGER, "end_page_number": INTEGER}),
    record(
        "content_block_location",
        {**_CITED, "start_block_index": INTEGER, "end_block_index": INTEGER},
    ),
    record(
        "web_search_result_location",
        {"cited_text": STRING, "encrypted_index": STRING, "title": _NULLABLE_STRING, "url": STRING},
    ),
    record(
        "search_result_location",
        {
            "cited_text": STRING,
            "search_result_index": INTEGER,
            "source": STRING,
            "start_block_index": INTEGER,
            "end_block_index": INTEGER,
            "title": _NULLABLE_STRING,
        },
    ),
)
_CITATIONS = record("", {}, {"enabled": BOOLEAN})
_TEXT = record(
    "text", {"text": filled}, {"citations": nullable(list_of(_CITATION, omits=True)), **_MARKED}
)
_CALLER = either(
    record("direct", {}),
    record("code_execution_20250825", {"tool_id": STRING}),
    record("code_execution_20260120", {"tool_id": STRING}),
)
_TOOL_REFERENCE = record("tool_reference", {"tool_name": STRING}, _MARKED)

# The sources of files are checked where they are written.
_DOCUMENT = record(
    "document",
    {"source": anything},
    {
        "citations": nullable(_CITATIONS),
        "context": _NULLABLE_STRING,
        "title": _NULLABLE_STRING,
        **_MARKED,
    },
)
_TRANSFORMATIONS = record("", {}, {"oversized_image": one_of("downsize", "error")})

_TAB = record("", {"tab_id": STRING, "title": STRING, "url": STRING}, {"active": BOOLEAN})
_DOWNLOAD = {"download_id": STRING, "url": STRING}
_STATE_CHANGE = either(
    record("tab_opened", {"tab_id": STRING}),
    record("download_started", _DOWNLOAD),
    record(
        "download_completed",
        _DOWNLOAD,
        {"path": _NULLABLE_STRING, "size_bytes": _NULLABLE_INTEGER},
    ),
    record("download_failed", _DOWNLOAD, {"error": _NULLABLE_STRING}),
)

BLOCKS: Mapping[str, Shape] = {
    "text": _TEXT,
    "image": record(
        "image", {"source": anything}, {"transformations": nullable(_TRANSFORMATIONS), **_MARKED}
    ),
    "document": _DOCUMENT,
    "search_result": record(
        "search_result",
        {"content": list_of(_TEXT, may_be_empty=False), "source": STRING, "title": STRING},
        {"citations": _CITATIONS, **_MARKED},
    ),
    "thinking": record("thinking", {"signature": filled, "thinking": STRING}),
    "redacted_thinking": record("redacted_thinking", {"data": filled}),
    "tool_use": record(
        "tool_use",
        {"id": STRING, "name": STRING, "input": OBJECT},
        {"caller": _CALLER, "toolset_name": _NULLABLE_STRING, **_MARKED},
    ),
    # The content consists of blocks that were fitted before.
    "tool_result": record(
        "tool_result",
        {"tool_use_id": STRING},
        {
            "content": anything,
            "is_error": BOOLEAN,
            "toolset_name": _NULLABLE_STRING,
            **_MARKED,
        },
    ),
    "container_upload": record("container_upload", {"file_id": filled}, _MARKED),
    "tool_reference": _TOOL_REFERENCE,
    "browser_state": record(
        "browser_state",
        {"tabs": list_of(_TAB)},
        {"state_changes": nullable(list_of(_STATE_CHANGE, may_be_empty=False)), **_MARKED},
    ),
}
"""The shape of each type of block, except those of tools that the provider runs."""


def _error(kind: str, *codes: str, has_text: bool = False) -> Shape:
    optional = {"error_message": _NULLABLE_STRING} if has_text else {}
    return record(kind, {"error_code": one_of(*codes)}, optional)


_FAULTS = ("invalid_tool_input", "unavailable", "too_many_requests")
_RUN_FAULTS = (*_FAULTS, "execution_time_exceeded")


def _run(kind: str, output: str, stdout: str = "stdout") -> Shape:
    files = list_of(record(output, {"file_id": STRING}))
    return record(
        kind, {"content": files, "return_code": INTEGER, "stderr": STRING, stdout: STRING}
    )


_SEARCHED = either(
    list_of(
        record(
            "web_search_result",
            {"encrypted_content": filled, "title": STRING, "url": STRING},
            {"page_age": _NULLABLE_STRING},
        )
    ),
    _error(
        "web_search_tool_result_error",
        *_FAULTS,
        "max_uses_exceeded",
        "query_too_long",
        "request_too_large",
    ),
)
_FETCHED = either(
    _error(
        "web_fetch_tool_result_error",
        *_FAULTS,
        "url_too_long",
        "url_not_allowed",
        "url_not_in_prior_context",
        "url_not_accessible",
        "unsupported_content_type",
        "max_uses_exceeded",
        "content_too_large",
    ),
    record(
        "web_fetch_result",
        {"content": _DOCUMENT, "url": STRING},
        {"retrieved_at": _NULLABLE_STRING},
    ),
)
_EXECUTED = either(
    _error("code_execution_tool_result_error", *_RUN_FAULTS),
    _run("code_execution_result", "code_execution_output"),
    _run("encrypted_code_execution_result", "code_execution_output", "encrypted_stdout"),
)
_BASH = either(
    _error("bash_code_execution_tool_result_error", *_RUN_FAULTS, "output_file_too_large"),
    _run("bash_code_execution_result", "bash_code_execution_output"),
)
_EDITED = either(
    _error(
        "text_editor_code_execution_tool_result_error",
        *_RUN_FAULTS,
        "file_not_found",
        has_text=True,
    ),
    record(
        "text_editor_code_execution_view_result",
        {"content": STRING, "file_type": one_of("text", "image", "pdf")},
        dict.fromkeys(("num_lines", "start_line", "total_lines"), _NULLABLE_INTEGER),
    ),
    record("text_editor_code_execution_create_result", {"is_file_update": BOOLEAN}),
    record(
        "text_editor_code_execution_str_replace_result",
        {},
        {
            "lines": nullable(list_of(STRING)),
            **dict.fromkeys(
                ("new_lines", "new_start", "old_lines", "old_start"), _NULLABLE_INTEGER
            ),
        },
    ),
)
_TOOLS_FOUND = either(
    _error("tool_search_tool_result_error", *_RUN_FAULTS, has_text=True),
    record("tool_search_tool_search_result", {"tool_references": list_of(_TOOL_REFERENCE)}),
)


def _server_result(kind: str, content: Shape, *, has_caller: bool = False) -> Shape:
    optional = {"caller": _CALLER} if has_caller else {}
    return record(kind, {"content": content, "tool_use_id": STRING}, {**optional, **_MARKED})


SERVER_RESULTS: Mapping[str, Shape] = {
    "web_search_tool_result": _server_result("web_search_tool_result", _SEARCHED, has_caller=True),
    "web_fetch_tool_result": _server_result("web_fetch_tool_result", _FETCHED, has_caller=True),
    "code_execution_tool_result": _server_result("code_execution_tool_result", _EXECUTED),
    "bash_code_execution_tool_result": _server_result("bash_code_execution_tool_result", _BASH),
    "text_editor_code_execution_tool_result": _server_result(
        "text_editor_code_execution_tool_result", _EDITED
    ),
    "tool_search_tool_result": _server_result("tool_search_tool_result", _TOOLS_FOUND),
}
"""The shapes of the results of the provider's own tools, by the type of the result."""

RESULT_OF_SERVER_TOOL: Mapping[str, str] = {
    "web_search": "web_search_tool_result",
    "web_fetch": "web_fetch_tool_result",
    "code_execution": "code_execution_tool_result",
    "bash_code_execution": "bash_code_execution_tool_result",
    "text_editor_code_execution": "text_editor_code_execution_tool_result",
    "tool_search_tool_regex": "tool_search_tool_result",
    "tool_search_tool_bm25": "tool_search_tool_result",
}
"""The type of the result of each tool that the provider runs, by the tool's name."""

SERVER_CALL = record(
    "server_tool_use",
    {"id": STRING, "name": one_of(*RESULT_OF_SERVER_TOOL), "input": OBJECT},
    {"caller": _CALLER, **_MARKED},
)
"""The shape of a call of a tool that the provider runs."""
