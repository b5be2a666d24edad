"""Random messages of Anthropic's Messages API: what its SDK can write, and odd variants of it."""

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC
from sessiond_server.messages.schemas import CHECKS
from sessiond_server.messages.schemas.checks import SchemaError

from .drawn_values import (
    JSON,
    KNOWN_ASSET,
    MISSING_ASSET,
    PDF,
    PNG,
    clean,
    ids,
    names,
    objects,
    sometimes,
    texts,
)

JPEG = "/9j/4AAQSkZJRgABAQAAAQABAAD/2w=="
ODD: list[Any] = [None, 0, True, "", " ", [], {}, ["x"], {"type": "x"}, 2**70, [None], "\ud83d"]
MARKERS: list[Any] = [
    *(
        {"type": "ephemeral"},
        {"type": "ephemeral", "ttl": "1h"},
        {"type": "ephemeral", "ttl": "5m"},
    ),
    *(None, "ephemeral", {"type": "ephemeral", "ttl": "2h"}, {"type": "ephemeral", "x": 1}),
]
marks = texts(may_be_blank=False)
server_ids = st.sampled_from(["srvtoolu_1", "srvtoolu_2", "srvtoolu_3", "odd id"])
contents = st.sampled_from(
    [
        *(PNG, PNG, JPEG, PDF, "AAAA", "not base64", "", "aGVsbG8="),
        *(PNG.rstrip("="), JPEG.replace("/", "_"), f"{PNG[:20]}\n{PNG[20:]}"),
        *(f"sessiond-asset:{KNOWN_ASSET}", f"sessiond-asset:{MISSING_ASSET}"),
        f"data:image/png;base64,{PNG}",
    ]
)
media_types = st.sampled_from(
    [
        *("image/png", "image/png", "image/jpeg", "image/jpg", "image/PNG", "image/bmp"),
        *("application/pdf", "text/markdown", "text/plain"),
    ]
)
urls = st.sampled_from(
    ["https://e.com/a.png", "http://e.com/a.png", "file:///a", f"sessiond-asset:{KNOWN_ASSET}"]
)
text = st.builds(
    lambda value, citations: clean({"type": "text", "text": value, "citations": citations}),
    texts(),
    sometimes(
        st.sampled_from(
            [
                [],
                [
                    {
                        **{"type": "char_location", "cited_text": "c", "document_index": 0},
                        **{"document_title": None, "start_char_index": 0, "end_char_index": 1},
                        "file_id": None,
                    }
                ],
            ]
        )
    ),
)
sources = st.one_of(
    st.builds(lambda m, d: {"type": "base64", "media_type": m, "data": d}, media_types, contents),
    st.builds(lambda m, d: {"type": "base64", "media_type": m, "data": d}, media_types, contents),
    urls.map(lambda url: {"type": "url", "url": url}),
    st.just({"type": "file", "file_id": "file_1"}),
)
images = sources.map(lambda source: {"type": "image", "source": source})
documents = st.builds(
    lambda source, title: clean({"type": "document", "source": source, "title": title}),
    st.one_of(
        sources,
        st.builds(
            lambda m, d: {"type": "text", "media_type": m, "data": d},
            st.sampled_from(["text/plain", "text/markdown"]),
            texts(),
        ),
        st.builds(
            lambda content: {"type": "content", "content": content},
            st.one_of(texts(), st.lists(st.one_of(text, images), max_size=3)),
        ),
    ),
    sometimes(marks),
)
search_results = st.builds(
    lambda title, content: {
        **{"type": "search_result", "source": "s", "title": title, "content": content}
    },
    texts(),
    st.lists(text, max_size=2),
)
references = st.sampled_from(["look_up", "known"]).map(
    lambda name: {"type": "tool_reference", "tool_name": name}
)
results = st.builds(
    lambda i, c, e: clean({"type": "tool_result", "tool_use_id": i, "content": c, "is_error": e}),
    ids,
    st.one_of(
        texts(),
        st.none(),
        st.lists(st.one_of(text, text, images, documents, search_results, references), max_size=2),
    ),
    sometimes(st.booleans()),
)
calls = st.builds(
    lambda i, n, a, c: clean({"type": "tool_use", "id": i, "name": n, "input": a, "caller": c}),
    ids,
    names,
    objects,
    sometimes(
        st.sampled_from(
            [{"type": "direct"}, {"type": "code_execution_20250825", "tool_id": "srvtoolu_1"}]
        )
    ),
)
thinking = st.one_of(
    st.builds(
        lambda t, s: {"type": "thinking", "thinking": t, "signature": s},
        texts(),
        st.sampled_from(["", "c2ln", "c2ln"]),
    ),
    st.just({"type": "redacted_thinking", "data": "c2ln"}),
)
beta = st.builds(
    lambda kind, mark: (
        {"type": kind, "id": "mcptoolu_1", "tool_use_id": "mcptoolu_1"}
        | {"name": "f", "server_name": "s", "input": {"q": mark}, "content": mark}
    ),
    st.sampled_from(["mcp_tool_use", "mcp_tool_result", "compaction", "mystery"]),
    marks,
)


@st.composite
def server_calls(draw: st.DrawFn) -> list[JSON]:
    """A call that the provider runs, and its result."""
    name, kind, content = draw(
        st.sampled_from(
            [
                (
                    *("web_search", "web_search_tool_result"),
                    [
                        {
                            "type": "web_search_result",
                            "encrypted_content": "c2ln",
                            "url": "https://u",
                        }
                    ],
                ),
                ("web_search", "web_search_tool_result", []),
                (
                    *("web_fetch", "web_fetch_tool_result"),
                    {"type": "web_fetch_result", "url": "https://u", "retrieved_at": None},
                ),
                (
                    *("code_execution", "code_execution_tool_result"),
                    {"type": "code_execution_result", "content": [], "return_code": 0},
                ),
                (
                    *("tool_search_tool_bm25", "tool_search_tool_result"),
                    {"type": "tool_search_tool_search_result", "tool_references": []},
                ),
            ]
        )
    )
    if isinstance(content, list):
        content = [item | {"title": draw(marks)} for item in content]
    elif name == "web_fetch":
        content = content | {"content": draw(documents)}
    elif name == "code_execution":
        content = content | {"stdout": draw(marks), "stderr": ""}
    call_id = draw(server_ids)
    call = {"type": "server_tool_use", "id": call_id, "name": name, "input": {"q": draw(marks)}}
    return [call, {"type": kind, "tool_use_id": call_id, "content": content}]


@st.composite
def oddly(draw: st.DrawFn, strategy: st.SearchStrategy[JSON]) -> JSON:
    """A block, which sometimes has an odd value, another cache marker, a key more or a key less."""
    block = _copied(draw(strategy))
    holders = [*_objects(block)]
    holder = holders[draw(st.integers(0, len(holders) - 1))]
    key = draw(st.sampled_from(sorted(holder)))
    match draw(st.integers(0, 19)):
        case 0 | 1:
            block["cache_control"] = draw(st.sampled_from(MARKERS))
        case 2:
            del holder[key]
        case 3:
            holder[key] = draw(st.sampled_from(ODD))
        case 4:
            holder[draw(st.sampled_from(["caller", "extra", "file_id"]))] = draw(
                st.sampled_from(ODD)
            )
        case _:
            pass
    return block


def _objects(value: Any) -> Iterator[JSON]:
    """Yield the objects in a value that have keys, each before the objects within it."""
    if isinstance(value, dict) and value:
        yield value
        for item in value.values():
            yield from _objects(item)
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _is_admitted(message: JSON) -> bool:
    try:
        CHECKS[FORMAT_ANTHROPIC](message)
    except SchemaError:
        return False
    return True


@st.composite
def _messages(draw: st.DrawFn) -> JSON:
    role = draw(st.sampled_from(["user", "assistant", "user", "assistant", "system"]))
    if role == "system":
        content: Any = draw(st.one_of(texts(), st.lists(oddly(text), max_size=2)))
        return {"role": "system", "content": content}
    if role == "assistant":
        one = st.one_of(text, calls, calls, thinking, beta)
        several = st.one_of(oddly(one).map(lambda block: [block]), server_calls())
        blocks = [block for group in draw(st.lists(several, max_size=3)) for block in group]
    else:
        one = st.one_of(text, results, results, images, documents, search_results)
        blocks = draw(st.lists(oddly(one), max_size=4))
    message: JSON = {"role": role, "content": draw(st.one_of(texts(), st.just(blocks)))}
    if role == "assistant" and draw(st.booleans()):
        message |= {"id": "msg_1", "type": "message", "model": "m", "usage": {"input_tokens": 1}}
    return message


def _copied(value: Any) -> Any:
    """Return a copy, because sampled values are shared."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def anthropic_messages() -> st.SearchStrategy[JSON]:
    """A message that the server stores."""
    return _messages().filter(_is_admitted)
