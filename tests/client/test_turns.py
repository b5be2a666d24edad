"""Turns that were started before: abort, get, list, wait."""

import pytest

from sessiond import errors
from sessiond.v1 import turn_pb2
from sessiond.v1.conversation_service_pb2 import AbortResponse, ListTurnsResponse, WatchResponse

from .turn_responses import (
    COMPLETED,
    FAILED,
    RUNNING,
    broken,
    message_event,
    silence,
    stored,
    turn,
    turn_event,
)


class TestTurns:
    async def test_abort(self, colour, server, session) -> None:
        server.on(
            "Abort", AbortResponse(turns=[turn(turn_pb2.TURN_STATE_ABORTED)]), AbortResponse()
        )
        (ended,) = await colour.call(session.abort)
        assert (ended.turn_id, ended.state) == ("t1", "aborted")
        assert await colour.call(session.abort, "t2", request_id="r") == []
        await colour.call(session.abort, include_queued=True)
        first, second, third = server.of("Abort")
        assert (first.session_id, first.turn_id, first.include_queued) == ("s", "", False)
        assert first.request_id
        assert (second.turn_id, second.request_id) == ("t2", "r")
        assert third.include_queued
        with pytest.raises(errors.InvalidField):
            await colour.call(session.abort, "")

    async def test_get_and_list(self, colour, server, session) -> None:
        server.on("GetTurn", turn(COMPLETED, last_seq=9))
        server.on(
            "ListTurns",
            ListTurnsResponse(turns=[turn(id="b")], next_page_token="1"),
            ListTurnsResponse(turns=[turn(id="a")]),
        )
        assert (await colour.call(session.get_turn, "t1")).last_seq == 9
        assert server.of("GetTurn")[0].turn_id == "t1"
        assert [
            t.turn_id for t in await colour.collect(session.turns(state="running", page_size=1))
        ] == ["b", "a"]
        first, second = server.of("ListTurns")
        assert (first.session_id, first.state, first.page_size, first.page_token) == (
            "s",
            RUNNING,
            1,
            "",
        )
        assert second.page_token == "1"
        with pytest.raises(errors.InvalidField):
            session.turns(state="asleep")

    async def test_waiting_for_one_that_has_ended(self, colour, server, session) -> None:
        server.on("Watch", [WatchResponse(events=[message_event(8)]), silence])
        server.on("GetTurn", turn(COMPLETED, last_seq=9))
        server.on("GetMessage", stored(9))
        assert (await colour.call(session.wait_for_turn, "t1")).seq == 9

    async def test_waiting_for_one_that_ends(self, colour, server, session, impatient) -> None:
        other, ours = (
            turn_event("assistant.turn_end", turn_id="t0"),
            turn_event("assistant.turn_end", state="completed"),
        )
        server.on(
            "Watch",
            [
                WatchResponse(),
                WatchResponse(events=[other, message_event(8)]),
                WatchResponse(events=[ours]),
                silence,
            ],
        )
        server.on("GetTurn", turn(), turn(COMPLETED, last_seq=9))
        server.on("GetMessage", stored(9))
        assert (await colour.call(session.wait_for_turn, "t1")).seq == 9
        # The client fetched the turn twice: when the watch was open, and at the end.
        assert len(server.of("GetTurn")) == 2

    async def test_an_end_that_was_missed(self, colour, server, session, impatient) -> None:
        server.on(
            "Watch",
            [WatchResponse(), broken(server)],
            [WatchResponse(events=[message_event(8)]), silence],
        )
        server.on("GetTurn", turn(), turn(FAILED))
        with pytest.raises(errors.TurnFailed):
            await colour.call(session.wait_for_turn, "t1")

    async def test_waiting_for_too_long(self, colour, server, session) -> None:
        server.on("Watch", [WatchResponse(), silence])
        server.on("GetTurn", turn())
        with pytest.raises(TimeoutError) as caught:
            await colour.call(session.wait_for_turn, "t1", timeout=0.3)
        assert caught.value.metadata["turn_id"] == "t1"
