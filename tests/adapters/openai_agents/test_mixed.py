"""Sessions to which the SDK, other programs and turns of sessiond write."""

from typing import Any

import pytest

from sessiond import Client

pytest.importorskip("agents", reason="needs the SDK: `make adapters-test`")

from sessiond.adapters.openai_agents import SessiondSession

CALL: list[dict[str, Any]] = [
    {"role": "user", "content": "Is it warm in Ulm?"},
    {
        "role": "assistant",
        "content": "I look.",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "t", "arguments": '{"a":1}'}},
            {"id": "c2", "type": "function", "function": {"name": "u", "arguments": "{}"}},
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "21"},
    {"role": "tool", "tool_call_id": "c2", "content": "no"},
]
# The items that the SDK reads.
ITEMS = [
    CALL[0],
    {"role": "assistant", "content": "I look."},
    {"type": "function_call", "call_id": "c1", "name": "t", "arguments": '{"a": 1}'},
    {"type": "function_call", "call_id": "c2", "name": "u", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "21"},
    {"type": "function_call_output", "call_id": "c2", "output": "no"},
]
ANTHROPIC: list[dict[str, Any]] = [
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
            {"type": "tool_use", "id": "t1", "name": "t", "input": {"b": 2}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": "yes"},
            {"type": "text", "text": "And this?"},
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
            },
        ],
    },
]


@pytest.fixture
def session(target: str, namespace: str) -> SessiondSession:
    return SessiondSession("chat", target=target, namespace=namespace, create={"model": "echo"})


async def test_messages_of_chat_completions_are_read_as_items(
    session: SessiondSession, client: Client
) -> None:
    client.create_session(session.sessiond_id).store_messages(CALL, "openai")
    own = {"role": "user", "content": "own"}
    await session.add_items([own])
    assert await session.get_items() == [*ITEMS, own]
    for limit in range(8):
        assert await session.get_items(limit) == [*ITEMS, own][7 - limit :]


async def test_messages_of_other_providers_are_read_as_items(
    session: SessiondSession, client: Client
) -> None:
    client.create_session(session.sessiond_id).store_messages(ANTHROPIC, "anthropic")
    assert await session.get_items() == [
        {"type": "function_call", "call_id": "t1", "name": "t", "arguments": '{"b": 2}'},
        {"type": "function_call_output", "call_id": "t1", "output": "yes"},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "And this?"},
                {
                    "type": "input_image",
                    "image_url": "data:image/png;base64,iVBORw0KGgo=",
                    "detail": "auto",
                },
            ],
        },
    ]


async def test_calls_without_ids_are_paired_with_their_results(
    session: SessiondSession, client: Client
) -> None:
    client.create_session(session.sessiond_id).store_messages(
        [
            {"role": "model", "parts": [{"functionCall": {"name": n}} for n in "ab"]},
            {
                "role": "user",
                "parts": [{"functionResponse": {"name": n, "response": {"r": n}}} for n in "ab"],
            },
        ],
        "gemini",
    )
    items: list[Any] = await session.get_items()
    assert [item["type"] for item in items] == ["function_call"] * 2 + ["function_call_output"] * 2
    assert [item["call_id"] for item in items[:2]] == [item["call_id"] for item in items[2:]]
    assert items[0]["call_id"] != items[1]["call_id"]


@pytest.mark.parametrize("reads_first", [True, False])
async def test_items_of_one_message_are_popped_one_by_one(
    session: SessiondSession, client: Client, reads_first: bool
) -> None:
    client.create_session(session.sessiond_id).store_messages(CALL, "openai")
    if reads_first:
        await session.get_items()
    left = [*ITEMS]
    while left:
        assert await session.pop_item() == left.pop()
        assert await session.get_items() == left
    assert await session.pop_item() is None


async def test_a_snapshot_cuts_through_a_message(session: SessiondSession, client: Client) -> None:
    client.create_session(session.sessiond_id).store_messages(CALL, "openai")
    snapshot = await session._get_compaction_snapshot(4)
    assert snapshot is not None
    assert (snapshot.items, snapshot.complete) == (ITEMS[2:], False)
    assert await snapshot.replace_suffix(0, [{"role": "user", "content": "summary"}])
    assert await session.get_items() == [*ITEMS[:2], {"role": "user", "content": "summary"}]


async def test_a_turn_of_sessiond_goes_on_with_the_sdks_items_and_the_sdk_with_its_answer(
    session: SessiondSession, client: Client
) -> None:
    await session.add_items(
        [
            {"role": "user", "content": "Is it warm?"},
            {"type": "function_call", "call_id": "c1", "name": "t", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "21"},
        ]
    )
    answer = client.get_session(session.sessiond_id).send_and_wait("And tomorrow?")
    assert "And tomorrow?" in answer.content
    assert (await session.get_items())[-2:] == [
        {"role": "user", "content": "And tomorrow?"},
        {"role": "assistant", "content": answer.content},
    ]
