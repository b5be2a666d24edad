"""Random histories over all formats: what SDKs store, well-formed and odd, in any order.

Every text contains a unique mark, by which a test finds it in a request.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    Message,
    Part,
    Parts,
    Reasoning,
    Role,
    ToolCall,
    ToolResult,
)

from . import sdk_shapes
from .anthropic_histories import anthropic_messages
from .drawn_values import (
    ASSETS,
    JSON,
    KNOWN_ASSET,
    MISSING_ASSET,
    PDF,
    PNG,
    arguments,
    as_message,
    clean,
    ids,
    names,
    objects,
    sometimes,
    texts,
)
from .program_histories import other_message, program_messages

__all__ = ["ASSETS", "KNOWN_ASSET", "MISSING_ASSET", "PDF", "PNG", "as_message", "histories"]


def image_part() -> st.SearchStrategy[JSON]:
    urls = st.sampled_from(
        [
            f"data:image/png;base64,{PNG}",
            "https://example.com/a.png",
            "file:///a.png",
            f"data:image/bmp;base64,{PNG}",
            f"sessiond-asset:{KNOWN_ASSET}",
            f"sessiond-asset:{MISSING_ASSET}",
        ]
    )
    return urls.map(lambda url: {"type": "image_url", "image_url": {"url": url}})


chat_parts = st.one_of(
    texts().map(lambda text: {"type": "text", "text": text}),
    image_part(),
    st.just({"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}),
    st.just(
        {
            "type": "file",
            "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"},
        }
    ),
    st.just({"type": "file", "file": {"file_id": "file-1"}}),
    texts(may_be_blank=False).map(lambda text: {"type": "unheard_of", "text": text}),
    st.just({"type": ["odd"]}),
)
responses_parts = st.one_of(
    texts().map(lambda text: {"type": "input_text", "text": text}),
    st.just({"type": "input_image", "image_url": "https://example.com/a.png", "detail": "auto"}),
    st.just({"type": "input_image", "file_id": "file-1"}),
    st.just(
        {
            "type": "input_file",
            "filename": "a.pdf",
            "file_data": f"data:application/pdf;base64,{PDF}",
        }
    ),
)


@st.composite
def chat_messages(draw: st.DrawFn) -> JSON:
    """A message of Chat Completions, as SDKs and servers make them, odd ones included."""
    kind = draw(
        st.sampled_from(["user", "user", "assistant", "assistant", "tool", "tool", "other"])
    )
    if kind == "user":
        content = draw(st.one_of(texts(), texts(), st.lists(chat_parts, max_size=3)))
        name = draw(sometimes(st.sampled_from(["ann", "a b", "<x>"])))
        return clean({"role": "user", "content": content, "name": name})
    if kind == "tool":
        content = draw(
            st.one_of(
                texts(), st.lists(chat_parts, max_size=2), st.none(), objects, st.just({"temp": 21})
            )
        )
        call_id = draw(sometimes(ids)) or draw(ids)
        return {"role": "tool", "tool_call_id": call_id, "content": content}
    if kind == "other":
        role = draw(st.sampled_from(["system", "developer", "function"]))
        name = draw(names) if role == "function" else None
        return clean({"role": role, "content": draw(texts()), "name": name})
    message: JSON = {"role": "assistant"}
    message["content"] = draw(
        st.one_of(
            st.none(),
            texts(),
            st.lists(texts().map(lambda text: {"type": "text", "text": text}), max_size=2),
        )
    )
    calls = draw(
        st.one_of(
            st.none(),
            st.lists(
                st.builds(
                    lambda i, n, a: {
                        "id": i,
                        "type": "function",
                        "function": {"name": n, "arguments": a},
                    },
                    ids,
                    names,
                    arguments,
                ),
                max_size=3,
            ),
        )
    )
    if calls is not None:
        message["tool_calls"] = calls
    extras = {
        "refusal": st.one_of(st.just(None), texts()),
        "function_call": st.one_of(
            st.just(None), st.builds(lambda n, a: {"name": n, "arguments": a}, names, arguments)
        ),
        "audio": st.sampled_from(
            [None, {"id": "audio_1", "transcript": "mark00.", "data": "AA=="}]
        ),
        "reasoning_content": texts(),
        "annotations": st.just([]),
        "parsed": st.just(None),
        "name": st.sampled_from(["bot", "b ot"]),
    }
    for key, strategy in extras.items():
        if draw(st.integers(0, 5)) == 0:
            message[key] = draw(strategy)
    return message


@st.composite
def responses_items(draw: st.DrawFn) -> JSON:
    """An item of the Responses API."""
    kind = draw(
        st.sampled_from(
            [
                "message",
                "input",
                "function_call",
                "output",
                "reasoning",
                "custom",
                "custom_output",
                "computer",
                "web_search",
                "mcp",
                "compaction",
                "unknown",
                "image",
            ]
        )
    )
    match kind:
        case "message":
            parts = st.builds(
                lambda text: {"type": "output_text", "text": text, "annotations": []}, texts()
            )
            return {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": draw(st.lists(parts, min_size=1, max_size=2)),
            }
        case "input":
            content = draw(st.one_of(texts(), st.lists(responses_parts, max_size=3)))
            return {
                "type": "message",
                "role": draw(st.sampled_from(["user", "developer"])),
                "content": content,
            }
        case "function_call":
            return {
                "type": "function_call",
                "id": "fc_1",
                "call_id": draw(ids),
                "name": draw(names),
                "arguments": draw(arguments),
            }
        case "output":
            output = draw(st.one_of(texts(), st.lists(responses_parts, max_size=2)))
            return {"type": "function_call_output", "call_id": draw(ids), "output": output}
        case "custom":
            return {
                "type": "custom_tool_call",
                "call_id": draw(ids),
                "name": draw(names),
                "input": draw(texts()),
            }
        case "custom_output":
            return {
                "type": "custom_tool_call_output",
                "call_id": draw(ids),
                "output": draw(texts()),
            }
        case "reasoning":
            encrypted = draw(st.sampled_from([None, "gAAAA"]))
            return clean(
                {
                    "type": "reasoning",
                    "id": "rs_1",
                    "summary": [{"type": "summary_text", "text": draw(texts())}],
                    "encrypted_content": encrypted,
                }
            )
        case "computer":
            return {
                "type": "computer_call",
                "id": "cu_1",
                "call_id": draw(ids),
                "action": {"type": "click", "x": 1, "y": 2, "button": "left"},
                "pending_safety_checks": [],
                "status": "completed",
            }
        case "web_search":
            return {
                "type": "web_search_call",
                "id": "ws_1",
                "status": "completed",
                "action": {"type": "search", "query": draw(texts())},
            }
        case "mcp":
            return {
                "type": "mcp_call",
                "id": "mcp_1",
                "name": "look_up",
                "server_label": "s",
                "arguments": "{}",
                "output": draw(texts()),
            }
        case "compaction":
            return {"type": "compaction", "encrypted_content": "gAAAA"}
        case "image":
            return {
                "type": "image_generation_call",
                "id": "ig_1",
                "status": "completed",
                "result": PNG,
            }
        case _:
            return {"type": "quantum_call", "id": "q_1", "spin": draw(texts(may_be_blank=False))}


@st.composite
def gemini_contents(draw: st.DrawFn) -> JSON:
    """A content of the Gemini API, in either spelling."""
    role = draw(st.sampled_from(["user", "model", "user", "model", "function"]))
    text = texts().map(lambda text: {"text": text})
    if role == "model":
        call = st.builds(
            lambda i, n, a, s: clean(
                {"functionCall": clean({"id": i, "name": n, "args": a}), "thoughtSignature": s}
            ),
            sometimes(ids),
            names,
            objects,
            sometimes(st.just("c2ln")),
        )
        code = texts().map(lambda t: {"executableCode": {"language": "PYTHON", "code": t}})
        thought = texts().map(lambda t: {"text": t, "thought": True})
        parts = st.one_of(text, call, call, code, thought)
    else:
        response = st.builds(
            lambda i, n, r: {"functionResponse": clean({"id": i, "name": n, "response": r})},
            sometimes(ids),
            names,
            objects,
        )
        media = st.sampled_from(
            [
                {"inlineData": {"mimeType": "image/png", "data": PNG}},
                {"inline_data": {"mime_type": "image/png", "data": PNG}},
                {"fileData": {"mimeType": "video/mp4", "fileUri": "https://youtu.be/x"}},
            ]
        )
        parts = st.one_of(text, response, response, media)
    return {"role": role, "parts": draw(st.lists(parts, max_size=4))}


@st.composite
def part_messages(draw: st.DrawFn) -> Message:
    """A message in typed parts."""
    role = draw(st.sampled_from(["USER", "ASSISTANT", "TOOL", "SYSTEM"]))
    text = texts().map(lambda text: Part(text=_utf8(text)))
    if role == "ASSISTANT":
        parts = st.one_of(
            text,
            st.builds(
                lambda i, n, a: Part(
                    tool_call=ToolCall(call_id=i, name=n, arguments_json=_utf8(a))
                ),
                ids,
                names,
                arguments.filter(lambda a: a != "not json"),
            ),
            st.builds(
                lambda t, f: Part(reasoning=Reasoning(text=_utf8(t), signature=b"c2ln", format=f)),
                texts(may_be_blank=False),
                st.sampled_from([0, FORMAT_ANTHROPIC, FORMAT_GEMINI]),
            ),
        )
    elif role == "TOOL":
        parts = st.builds(
            lambda i, t, e: Part(
                tool_result=ToolResult(call_id=i, parts=[Part(text=_utf8(t))], is_error=e)
            ),
            ids,
            texts(),
            st.booleans(),
        )
    else:
        parts = text
    drawn = draw(st.lists(parts, min_size=1, max_size=3))
    return Message(role=Role.Value(f"ROLE_{role}"), parts=Parts(parts=drawn))


def _utf8(text: str) -> str:
    return text.encode(errors="replace").decode()


def of_sdks(
    strategy: st.SearchStrategy[JSON], odd: st.SearchStrategy[JSON]
) -> st.SearchStrategy[JSON]:
    """Return a strategy. One in three of its values has an odd shape of the same format."""
    return st.one_of(strategy, strategy, odd)


chat = of_sdks(chat_messages(), sdk_shapes.chat)
items = of_sdks(responses_items(), sdk_shapes.items)
contents = of_sdks(gemini_contents(), sdk_shapes.contents)
programs = program_messages(chat, items)
of_programs = st.one_of(
    *(
        strategy.map(lambda value, name=name: other_message(value, name))  # type: ignore[misc]
        for name, strategy in programs.items()
    )
)
messages = st.one_of(
    chat.map(lambda value: as_message(value, FORMAT_OPENAI)),
    chat.map(lambda value: as_message(value, FORMAT_OPENAI)),
    items.map(lambda value: as_message(value, FORMAT_OPENAI)),
    anthropic_messages().map(lambda value: as_message(value, FORMAT_ANTHROPIC)),
    contents.map(lambda value: as_message(value, FORMAT_GEMINI)),
    part_messages(),
    of_programs,
)


@dataclass(frozen=True)
class Drawn:
    """A random history whose newest message is a prompt or a result."""

    messages: Sequence[Message]


@st.composite
def histories(draw: st.DrawFn, max_size: int = 12) -> list[Message]:
    """A random history, with seqs."""
    kind = draw(st.sampled_from(["mixed", "mixed", "native", "program"]))
    if kind == "program":
        name = draw(st.sampled_from([*programs]))
        strategy = programs[name].map(lambda value: other_message(value, name))
    elif kind == "native":
        source, number = draw(
            st.sampled_from(
                [
                    (chat, FORMAT_OPENAI),
                    (items, FORMAT_OPENAI),
                    (anthropic_messages(), FORMAT_ANTHROPIC),
                    (contents, FORMAT_GEMINI),
                ]
            )
        )
        strategy = source.map(lambda value: as_message(value, number))
    else:
        strategy = messages
    drawn = draw(st.lists(strategy, min_size=1, max_size=max_size))
    for seq, message in enumerate(drawn, 1):
        message.seq = seq
    return drawn
