"""The events that stream a reply in Responses and in Gemini's API.

The events of Chat Completions and of Messages are in `model_server`.
"""

import json
from collections.abc import Iterator
from typing import Any

from ..model_server import Reply, pieces_of, words_of
from .refusal import JSON
from .signing import Signer

_Event = tuple[str, JSON]


def responses_events(reply: Reply, body: JSON, signer: Signer, number: int) -> list[JSON]:
    """Return the events that stream a reply in Responses.

    Args:
        reply: the reply.
        body: the request.
        signer: makes the encrypted content of reasoning.
        number: the number of the request, which makes the ids of items unique.
    """
    items = list(_items(reply, signer, number))
    base: JSON = {"id": f"resp_{number}", "object": "response", "model": body["model"]}
    opened = base | {"status": "in_progress", "output": []}
    events: list[_Event] = [
        ("response.created", {"response": opened}),
        ("response.in_progress", {"response": opened}),
    ]
    for index, item in enumerate(items):
        place = {"output_index": index, "item_id": item["id"]}
        added = {**item, "status": "in_progress"} if "status" in item else item
        events.append(("response.output_item.added", {"output_index": index, "item": added}))
        events += [(name, place | fields) for name, fields in _deltas(item)]
        events.append(("response.output_item.done", {"output_index": index, "item": item}))
    closed = base | {"status": "completed", "output": items, "usage": _usage(reply)}
    events.append(("response.completed", {"response": closed}))
    return [
        {"type": name, "sequence_number": number, **fields}
        for number, (name, fields) in enumerate(events)
    ]


def _items(reply: Reply, signer: Signer, number: int) -> Iterator[JSON]:
    if reply.thinking:
        reasoning_id = f"rs_{number}"
        yield {
            "type": "reasoning",
            "id": reasoning_id,
            "summary": [{"type": "summary_text", "text": reply.thinking}],
            "encrypted_content": signer.sign(reasoning_id),
        }
    if reply.text:
        part = {"type": "output_text", "text": reply.text, "annotations": []}
        yield {
            "type": "message",
            "id": f"msg_{number}",
            "role": "assistant",
            "status": "completed",
            "content": [part],
        }
    for index, (call_id, name, arguments) in enumerate(reply.tool_calls):
        yield {
            "type": "function_call",
            "id": f"fc_{number}_{index}",
            "call_id": call_id,
            "name": name,
            "arguments": arguments,
            "status": "completed",
        }


def _deltas(item: JSON) -> Iterator[_Event]:
    match item["type"]:
        case "reasoning":
            (part,) = item["summary"]
            for word in words_of(part["text"]):
                delta = {"summary_index": 0, "delta": word}
                yield "response.reasoning_summary_text.delta", delta
            done = {"summary_index": 0, "text": part["text"]}
            yield "response.reasoning_summary_text.done", done
        case "message":
            (part,) = item["content"]
            place = {"content_index": 0}
            yield "response.content_part.added", place | {"part": {**part, "text": ""}}
            for word in words_of(part["text"]):
                yield "response.output_text.delta", place | {"delta": word, "logprobs": []}
            yield "response.output_text.done", place | {"text": part["text"], "logprobs": []}
            yield "response.content_part.done", place | {"part": part}
        case _:
            for piece in pieces_of(item["arguments"]):
                yield "response.function_call_arguments.delta", {"delta": piece}
            done = {"arguments": item["arguments"], "name": item["name"]}
            yield "response.function_call_arguments.done", done


def _usage(reply: Reply) -> JSON | None:
    if not reply.usage:
        return None
    read, written = reply.usage
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + written,
    }


def gemini_chunks(reply: Reply, model: str, signer: Signer, number: int) -> list[JSON]:
    """Return the chunks that stream a reply in Gemini's API.

    The first call carries the signature. If there is no call, an empty text at the end carries it,
    as in answers of Gemini 3.

    Args:
        reply: the reply.
        model: the model.
        signer: makes the signature.
        number: the number of the request.
    """
    parts: list[JSON] = [{"text": word, "thought": True} for word in words_of(reply.thinking)]
    parts += [{"text": word} for word in words_of(reply.text)]
    calls: list[JSON] = [
        {"functionCall": {"name": name, "args": json.loads(arguments)}}
        for _, name, arguments in reply.tool_calls
    ]
    signed = calls[0] if calls else {"text": ""}
    signed["thoughtSignature"] = signer.sign()
    parts += calls or [signed]
    chunks = [_chunk([part], model, number) for part in parts]
    chunks[-1]["candidates"][0]["finishReason"] = reply.stop_reason or "STOP"
    if reply.usage:
        read, written = reply.usage
        chunks[-1]["usageMetadata"] = {
            "promptTokenCount": read,
            "candidatesTokenCount": written,
            "totalTokenCount": read + written,
        }
    return chunks


def _chunk(parts: list[JSON], model: str, number: int) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": parts}, "index": 0}
    return {"candidates": [candidate], "modelVersion": model, "responseId": f"r{number}"}
