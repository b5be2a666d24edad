"""The items of the Responses API that can be sent."""

# The keys that the API accepts in each type of item, except "type". Other types are not sent.
ITEM_KEYS = {
    "message": {"role", "content", "id", "status", "phase"},
    "function_call": {"call_id", "name", "arguments", "id", "status", "namespace", "caller"},
    "custom_tool_call": {"call_id", "name", "input", "id", "namespace", "caller"},
    "function_call_output": {"call_id", "output", "id", "status", "caller"},
    "custom_tool_call_output": {"call_id", "output", "id", "caller"},
    "reasoning": {"id", "summary", "content", "encrypted_content", "status"},
    "computer_call": {"id", "call_id", "action", "actions", "pending_safety_checks", "status"},
    "computer_call_output": {
        "call_id", "output", "id", "acknowledged_safety_checks", "status",
    },
    "local_shell_call": {"id", "action", "call_id", "status"},
    "local_shell_call_output": {"id", "output", "status"},
    "shell_call": {"action", "call_id", "id", "environment", "status", "caller"},
    "shell_call_output": {"call_id", "output", "id", "max_output_length", "status", "caller"},
    "apply_patch_call": {"call_id", "operation", "status", "id", "caller"},
    "apply_patch_call_output": {"call_id", "status", "id", "output", "caller"},
    "web_search_call": {"id", "action", "status"},
    "file_search_call": {"id", "queries", "status", "results"},
    "code_interpreter_call": {"id", "code", "container_id", "outputs", "status"},
    "image_generation_call": {"id", "result", "status"},
    "mcp_list_tools": {"id", "server_label", "tools", "error"},
    "mcp_call": {
        "id", "arguments", "name", "server_label", "approval_request_id", "error", "output",
        "status",
    },
    "compaction": {"encrypted_content", "id"},
}  # fmt: skip
# The keys that an item of each type must have to be sent.
REQUIRED_KEYS = {
    "web_search_call": {"id", "action", "status"},
    "file_search_call": {"id", "queries", "status"},
    "code_interpreter_call": {"id", "code", "container_id", "outputs", "status"},
    "image_generation_call": {"id", "result", "status"},
    "mcp_list_tools": {"id", "server_label", "tools"},
    "mcp_call": {"id", "arguments", "name", "server_label"},
    "compaction": {"encrypted_content"},
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
    "computer_call": "cu",
    "compaction": "cmp",
}
NULLABLE_KEYS = {"code", "outputs", "result", "output", "error"}
