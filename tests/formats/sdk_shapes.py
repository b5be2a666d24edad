"""Messages in the odd shapes in which SDKs, servers and programs write them: see test_*_shapes.py.

Each strategy draws messages of one format. Appends accept all of these messages.
"""

import base64
from typing import Any

from hypothesis import strategies as st

from .drawn_values import (
    KNOWN_ASSET,
    MISSING_ASSET,
    PNG,
    arguments,
    ids,
    names,
    objects,
    sometimes,
    texts,
)

JSON = dict[str, Any]
URL_SAFE = base64.urlsafe_b64encode(b"\x89PNG\r\n\x1a\n\xfb\xff\xfe").decode()

urls = st.sampled_from(
    [
        f"data:image/jpg;base64,{PNG}",
        f"data:image/PNG;base64,{URL_SAFE}",
        "data:image/png;base64,no base64!",
        "data:image/svg+xml;base64,PHN2Zy8+",
        "data:text/plain,a text",
        "http://e.com/a.png",
        f"sessiond-asset:{KNOWN_ASSET}",
        f"sessiond-asset:{MISSING_ASSET}",
        "",
    ]
)
file_ids = st.sampled_from(["file-1", "file_2", "assistant-1", "", "file"])
marker = st.sampled_from([{"mode": "explicit"}, {"mode": "explicit", "ttl": "12h"}, {"ttl": "1h"}])
details = st.sampled_from(["low", "original", "sharp", None])


def cleaned(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[JSON]:
    """Draw an object whose fields may be missing: None leaves a key out."""
    return st.fixed_dictionaries(fields).map(
        lambda value: {key: item for key, item in value.items() if item is not None}
    )


def just(value: Any) -> st.SearchStrategy[Any]:
    return st.just(value)


def nulls(*keys: str) -> st.SearchStrategy[JSON]:
    """Draw the nulls that model_dump() writes for fields without a value."""
    return st.lists(st.sampled_from(keys), unique=True).map(dict.fromkeys)


def with_more(value: st.SearchStrategy[JSON], more: st.SearchStrategy[JSON]) -> Any:
    """Draw an object with further keys."""
    return st.builds(lambda first, second: {**second, **first}, value, more)


# Chat Completions

chat_parts = st.one_of(
    cleaned(type=just("text"), text=texts(), prompt_cache_breakpoint=sometimes(marker)),
    st.builds(
        lambda url, detail: {"type": "image_url", "image_url": {"url": url, "detail": detail}},
        urls,
        details,
    ),
    st.builds(lambda url: {"type": "file", "file": {"file_data": url, "filename": "a"}}, urls),
    st.builds(lambda file_id: {"type": "file", "file": {"file_id": file_id}}, file_ids),
    st.just({"type": "input_audio", "input_audio": {"data": "UklGRg", "format": "flac"}}),
)
results_as_json = st.one_of(
    st.builds(
        lambda text, kind: {"type": kind, "id": text, "status": "ok", "text": 5},
        texts(may_be_blank=False),
        st.sampled_from(["sensor", "text", "file", "image_url"]),
    ),
    st.builds(
        lambda text: [{"type": "file", "name": text}, {"type": "text", "text": text}],
        texts(may_be_blank=False),
    ),
    st.just([{"type": "image", "data": PNG, "mimeType": "image/png"}]),
)
thoughts = st.builds(
    lambda thought, text: {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": thought}]},
            {"type": "text", "text": text},
        ],
    },
    texts(may_be_blank=False),
    texts(),
)
plain_answers = with_more(
    cleaned(role=just("assistant"), content=texts()),
    st.one_of(
        nulls("refusal", "annotations", "audio", "function_call", "tool_calls"),
        st.just({"annotations": [], "refusal": None}),
        st.just({"audio": {"id": "audio_1"}}),
    ),
)
chat: st.SearchStrategy[JSON] = st.one_of(
    st.lists(chat_parts, max_size=3).map(lambda parts: {"role": "user", "content": parts}),
    st.lists(chat_parts, max_size=3).map(lambda parts: {"role": "assistant", "content": parts}),
    st.builds(
        lambda call_id, content: {"role": "tool", "tool_call_id": call_id, "content": content},
        ids,
        results_as_json,
    ),
    thoughts,
    plain_answers,
)


# Responses

actions = st.sampled_from(
    [
        ("computer_call", {"action": {"type": "screenshot"}, "pending_safety_checks": []}),
        ("computer_call", {"action": {"type": "leap"}, "pending_safety_checks": []}),
        ("local_shell_call", {"action": {"type": "exec", "command": ["ls"], "env": {}}}),
        ("shell_call", {"action": {"commands": ["ls"]}}),
        ("apply_patch_call", {"operation": {"type": "delete_file", "path": "a"}}),
    ]
)
calls_of_actions = st.builds(
    lambda action, item_id, call_id: {
        "type": action[0],
        "id": item_id,
        "call_id": call_id,
        "status": "completed",
        **action[1],
    },
    actions,
    st.sampled_from(["cu_1", "cu_2", "x"]),
    ids,
)
screenshots = urls.map(lambda url: {"type": "computer_screenshot", "image_url": url})
outputs_of_actions = st.one_of(
    cleaned(type=just("computer_call_output"), call_id=ids, output=screenshots),
    cleaned(type=just("local_shell_call_output"), id=ids, output=texts()),
    cleaned(
        type=just("shell_call_output"),
        call_id=ids,
        output=st.builds(
            lambda text: [{"stdout": text, "stderr": "", "outcome": {"type": "timeout"}}], texts()
        ),
    ),
    cleaned(
        type=just("apply_patch_call_output"),
        call_id=ids,
        status=st.sampled_from(["completed", "failed", "odd"]),
        output=sometimes(texts()),
    ),
)
reasoning = with_more(
    cleaned(
        type=just("reasoning"),
        id=st.sampled_from(["rs_1", "rs_2", "x"]),
        encrypted_content=st.sampled_from([None, "", "gAAAA"]),
        summary=st.one_of(
            st.just([]),
            st.builds(lambda text: [{"text": text}], texts()),
            st.builds(lambda text: [{"type": "summary_text", "text": text}], texts()),
        ),
    ),
    nulls("summary", "content", "status"),
)
searches = st.builds(
    lambda item_id, text, status: {
        "type": "web_search_call",
        "id": item_id,
        "status": status,
        "action": {"type": "search", "query": text},
    },
    st.sampled_from(["ws_1", "ws_2"]),
    texts(),
    st.sampled_from(["completed", "odd"]),
)
approvals = st.one_of(
    st.builds(
        lambda item_id, given: {
            "type": "mcp_approval_request",
            "id": item_id,
            "name": "f",
            "server_label": "s",
            "arguments": given,
        },
        st.sampled_from(["mcpr_1", "mcpr_2"]),
        arguments,
    ),
    st.builds(
        lambda item_id, reason: {
            "type": "mcp_approval_response",
            "approval_request_id": item_id,
            "approve": True,
            "reason": reason,
        },
        st.sampled_from(["mcpr_1", "mcpr_2", "x"]),
        sometimes(texts()),
    ),
)
with_roles = st.one_of(
    st.builds(
        lambda call_id, name, given: {
            "role": "assistant",
            "type": "function_call",
            "call_id": call_id,
            "name": name,
            "arguments": given,
        },
        ids,
        names,
        arguments,
    ),
    st.builds(
        lambda role, call_id, output: {
            "role": role,
            "type": "function_call_output",
            "call_id": call_id,
            "output": output,
        },
        st.sampled_from(["tool", "user"]),
        ids,
        texts(),
    ),
)
items: st.SearchStrategy[JSON] = st.one_of(
    calls_of_actions, outputs_of_actions, reasoning, searches, approvals, with_roles
)


# Gemini

signatures = st.sampled_from([None, "c2ln", "-__-", "c2l", "no base64!", ""])
blobs = st.builds(
    lambda media_type, data: {"mimeType": media_type, "data": data, "displayName": "a"},
    st.sampled_from(["image/png", "image/jpg", "image/PNG", "image/tiff", ""]),
    st.sampled_from([PNG, URL_SAFE, "", "no base64!", f"sessiond-asset:{KNOWN_ASSET}"]),
)
files = st.sampled_from(["https://e.com/a", "http://e.com/a", "gs://a/b", "files/a", "file:///a"])
media = st.one_of(
    blobs.map(lambda blob: {"inlineData": blob}),
    files.map(lambda uri: {"fileData": {"mimeType": "video/mp4", "fileUri": uri}}),
)
long_names = st.sampled_from(["get", "1st", "n" * 100, "n" * 200])
gemini_calls = st.builds(
    lambda call_id, name, args: {"functionCall": {"id": call_id, "name": name, "args": args}},
    st.sampled_from([None, "", "call_1", "call_2"]),
    long_names,
    objects,
)
gemini_results = st.builds(
    lambda call_id, name, response, parts: {
        "functionResponse": {"id": call_id, "name": name, "response": response, "parts": parts}
    },
    st.sampled_from([None, "", "call_1", "call_2"]),
    long_names,
    st.one_of(objects, texts(), st.none(), st.just([1])),
    st.one_of(st.none(), st.lists(media, max_size=2)),
)
server_run = st.builds(
    lambda key, text: {key: {"id": "t", "toolType": "URL_CONTEXT", "args": {"q": text}}},
    st.sampled_from(["toolCall", "toolResponse"]),
    texts(may_be_blank=False),
)
gemini_parts = with_more(
    st.one_of(
        texts().map(lambda text: {"text": text}),
        gemini_calls,
        gemini_calls,
        gemini_results,
        gemini_results,
        media,
        server_run,
    ),
    st.one_of(
        cleaned(thought=sometimes(st.booleans()), thoughtSignature=signatures),
        nulls("thought", "thoughtSignature", "videoMetadata", "partMetadata", "speechMetadata"),
    ),
)
contents: st.SearchStrategy[JSON] = st.builds(
    lambda role, parts: {"role": role, "parts": parts},
    st.sampled_from(["user", "model"]),
    st.lists(gemini_parts, max_size=4),
)
