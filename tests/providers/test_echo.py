"""The model that needs no provider."""

import asyncio
from typing import Any

import pytest

from sessiond.v1.message_pb2 import FORMAT_OPENAI, ROLE_USER, Message, Part, Parts
from sessiond.v1.turn_pb2 import Usage
from sessiond_server.providers.echo import Echo

from .asking import anthropic, hear, openai, question


async def test_it_says_what_it_was_told() -> None:
    history = [
        *openai(
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": "echo"},
        ),
        *anthropic({"role": "user", "content": [{"type": "text", "text": "two  words"}]}),
    ]
    heard = await hear(Echo(), question(history, model="echo-1", system_prompt="And polite."))
    assert heard.message == {"role": "assistant", "content": "echo of 4 messages: two  words"}
    assert [delta.text for delta in heard.deltas] == [
        "echo ",
        "of ",
        "4 ",
        "messages: ",
        "two  ",
        "words",
    ]
    assert (heard.answer.model, heard.answer.stop_reason) == ("echo-1", "stop")
    assert heard.answer.usage == Usage(input_tokens=8, output_tokens=6)
    assert Echo().format == FORMAT_OPENAI


async def test_of_one_message_and_of_none() -> None:
    parts = Message(role=ROLE_USER, parts=Parts(parts=[Part(text="Hi")]))
    assert (await hear(Echo(), question([parts]))).text == "echo of 1 message: Hi"
    assert (await hear(Echo(), question([]))).text == "echo of 0 messages:"


async def test_a_text_of_ones_own() -> None:
    heard = await hear(Echo(), question(echo_text=" one\n two ", echo_delay_ms=0.1))
    assert heard.text == " one\n two "
    assert [delta.text for delta in heard.deltas] == [" one\n ", "two "]


@pytest.mark.parametrize("after", [0, 1, 99])
async def test_it_fails_when_told(after: int) -> None:
    heard = await hear(
        Echo(),
        question(echo_text="one two", echo_fault="MODEL_UNAVAILABLE", echo_fault_after=after),
    )
    assert len(heard.deltas) == min(after, 2)
    assert heard.refusal.reason == "MODEL_UNAVAILABLE"
    assert heard.refusal.metadata == {"model": "m", "provider": "echo"}


@pytest.mark.parametrize(
    "options",
    [
        {"echo_text": 3},
        {"echo_text": " "},
        {"echo_delay_ms": "1"},
        {"echo_delay_ms": -1},
        {"echo_delay_ms": 60_001},
        {"echo_delay_ms": True},
        {"echo_fault": "INTERNAL"},
        {"echo_fault": "MODEL_TIRED"},
        {"echo_fault": "MODEL_UNAVAILABLE", "echo_fault_after": 0.5},
    ],
)
async def test_options_that_are_none(options: dict[str, Any]) -> None:
    fault = (await hear(Echo(), question(**options))).refusal
    assert fault.reason == "MODEL_REQUEST_REJECTED"
    assert list(options)[-1] in fault.message


async def test_it_can_be_cancelled() -> None:
    pieces = Echo().stream(question(echo_text="one two", echo_delay_ms=60_000))
    task = asyncio.ensure_future(anext(pieces))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
