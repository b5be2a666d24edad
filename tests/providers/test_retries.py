"""All protocols, against a server that speaks them: retries and cancellation."""

import asyncio

import pytest

from ..support.model_server import ModelServer, Reply, fails
from .asking import hear, question
from .made import CALLS, Made


class TestRetries:
    @pytest.mark.parametrize(
        "first",
        [
            fails(500),
            fails(529),
            fails(429),
            fails(429, headers={"retry-after-ms": "1"}),
            Reply("x", after=-1, then="cut"),
        ],
    )
    async def test_what_passes_is_tried_again(
        self, make: Made, model_server: ModelServer, first: Reply
    ) -> None:
        model_server.script(first, first, Reply("At last."))
        heard = await hear(make(), question())
        assert heard.text == "At last."
        assert len(model_server.requests) == 3
        assert model_server.requests[0].body == model_server.requests[2].body

    async def test_only_so_often(self, make: Made, model_server: ModelServer) -> None:
        model_server.script(*[fails(500)] * 5)
        assert (await hear(make(retries=3), question())).refusal.metadata["http_status"] == 500
        assert len(model_server.requests) == 4

    @pytest.mark.parametrize(
        "first",
        [
            fails(400),
            fails(401),
            fails(404),
            fails(429, code="insufficient_quota"),
            fails(429, headers={"retry-after": "60"}),
        ],
    )
    async def test_what_does_not_pass_is_not(
        self, make: Made, model_server: ModelServer, first: Reply
    ) -> None:
        model_server.script(first)
        assert (await hear(make(), question())).fault
        assert len(model_server.requests) == 1

    async def test_a_call_that_breaks_off_was_not_streamed(
        self, make: Made, model_server: ModelServer
    ) -> None:
        model_server.script(
            Reply(
                tool_calls=CALLS,
                after=make.by_kind(openai=5, openai_responses=5, anthropic=5, gemini=1),
                then="cut",
            ),
            Reply(tool_calls=CALLS),
        )
        heard = await hear(make(), question())
        assert heard.answer
        assert len(model_server.requests) == 2


class TestCancellation:
    async def test_closing_the_generator_closes_the_connection(
        self, make: Made, model_server: ModelServer
    ) -> None:
        model_server.script(Reply("One two three.", after=make.events_of(2), then="hold"))
        pieces = make().stream(question())
        await anext(pieces)
        await pieces.aclose()
        assert await asyncio.to_thread(model_server.wait_until_left)

    @pytest.mark.parametrize("words_before", [-1, 0, 2])
    async def test_a_task_that_is_cancelled_closes_it_too(
        self, make: Made, model_server: ModelServer, words_before: int
    ) -> None:
        model_server.script(
            Reply("One two three.", after=make.events_of(words_before), then="hold")
        )
        task = asyncio.create_task(hear(make(), question()))
        assert await asyncio.to_thread(model_server.wait_until_held)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(model_server.wait_until_left)
        assert len(model_server.requests) == 1

    async def test_others_go_on(self, make: Made, model_server: ModelServer) -> None:
        provider = make()
        model_server.script(Reply("One two.", after=make.events_of(2), then="hold"))
        first = asyncio.create_task(hear(provider, question()))
        assert await asyncio.to_thread(model_server.wait_until_held)
        assert (await hear(provider, question())).text
        model_server.release()
        assert (await first).text == "One two."
