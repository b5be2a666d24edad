"""The items of the Responses API that can be sent."""

# The keys that the API accepts in each type of item, except "type". Other types are not sent.
ITEM_KEYS = {
    "message": {"role", "content", "id", "status", "phase"},
    "function_call": {
        "call_id", "name", "arguments", "id", "status", "namespace", "caller", "async",
    },
    "custom_tool_call": {"call_id", "name", "input", "id", "namespace", "caller", "async"},
    "function_call_output": {
        "call_id", "output", "id", "status", "caller", "name", "namespace",
    },
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
    "image_generation_call": {
        "id", "result", "status", "action", "background", "error", "output_format", "quality",
        "revised_prompt", "size", "svg_usage",
    },
    "mcp_list_tools": {"id", "server_label", "tools", "error"},
    "mcp_call": {
        "id", "arguments", "name", "server_label", "approval_request_id", "error", "output",
        "status",
    },
    "mcp_approval_request": {"id", "arguments", "name", "server_label"},
    "mcp_approval_response": {"id", "approval_request_id", "approve", "reason"},
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
    "mcp_approval_request": {"id", "arguments", "name", "server_label"},
    "mcp_approval_response": {"approval_request_id", "approve"},
    "compaction": {"encrypted_content"},
    "computer_call": {"id", "call_id", "pending_safety_checks", "status"},
    "computer_call_output": {"call_id", "output"},
    "local_shell_call": {"id", "action", "call_id", "status"},
    "local_shell_call_output": {"id", "output"},
    "shell_call": {"action", "call_id"},
    "shell_call_output": {"call_id", "output"},
    "apply_patch_call": {"call_id", "operation", "status"},
    "apply_patch_call_output": {"call_id", "status"},
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
# The keys that may be null in each type of item.
NULLABLE_KEYS = {
    "message": {"phase"},
    "function_call": {"caller"},
    "custom_tool_call": {"caller"},
    "function_call_output": {"id", "caller", "name", "namespace", "status"},
    "custom_tool_call_output": {"caller"},
    "reasoning": {"encrypted_content"},
    "computer_call_output": {"id", "acknowledged_safety_checks", "status"},
    "local_shell_call_output": {"status"},
    "shell_call": {"id", "environment", "status", "caller"},
    "shell_call_output": {"id", "max_output_length", "status", "caller"},
    "apply_patch_call": {"id", "caller"},
    "apply_patch_call_output": {"id", "output", "caller"},
    "file_search_call": {"results"},
    "code_interpreter_call": {"code", "outputs"},
    "image_generation_call": {
        "result", "action", "background", "output_format", "quality", "revised_prompt", "size",
    },
    "mcp_list_tools": {"error"},
    "mcp_call": {"approval_request_id", "error", "output"},
    "mcp_approval_response": {"id", "reason"},
    "compaction": {"id"},
}  # fmt: skip
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
STATUSES = ("in_progress", "completed", "incomplete")
PHASES = ("commentary", "final_answer")
