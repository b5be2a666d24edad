"""Turns of sessions that are destroyed, deleted, copied or listed."""

import asyncio
import json
from base64 import urlsafe_b64decode
from collections.abc import Callable
from typing import Any

import pytest

from sessiond.v1 import conversation_service_pb2 as cs
from sessiond.v1 import session_service_pb2 as ss
from sessiond.v1.turn_pb2 import (
    TURN_STATE_COMPLETED,
    TURN_STATE_FAILED,
)
from sessiond_server.core.pagination import encode_token

from ..support.model_server import ModelServer
from ..support.turns import send, sending
from ..support.wire import Wire, error_of
from .calls import HOLD, held, send_held, turns_of


async def test_destroying_a_session_aborts_its_turns(one: Wire, models: ModelServer) -> None:
    models.script(HOLD)
    sents = [await sending(one, "one", text) for text in "ab"]
    await held(models)
    await one.destroy("one")
    assert [(await sent.error()).reason for sent in sents] == ["TURN_ABORTED"] * 2
    await one.resume("one")
    await send(one, "one", "c")
    assert (await one.texts("one"))[:2] == ["a", "c"]


async def test_deleting_a_session_ends_and_removes_its_turns(
    one: Wire, models: ModelServer, purger: Any, query: Callable[..., Any]
) -> None:
    models.script(HOLD)
    sents = [await sending(one, "one", text) for text in "ab"]
    await held(models)
    await one.delete("one")
    assert [(await sent.error()).reason for sent in sents] == ["SESSION_NOT_FOUND"] * 2
    assert await asyncio.to_thread(models.wait_until_left)
    await one.create("one")
    assert await turns_of(one) == []
    await send(one, "one", "anew")
    await one.delete("one")
    await purger.round()
    assert query("SELECT count(*) FROM turns") == [(0,)]


async def test_a_copy_has_the_messages_but_not_the_turns(one: Wire, models: ModelServer) -> None:
    await send_held(one, models)
    await one.copy("one", "two")
    await send(one, "two", "b")
    assert await one.texts("two") == ["a", "b", "Hello from the model server."]
    assert len(await turns_of(one, "two")) == 1


async def test_a_running_turn_keeps_its_session_from_expiring(
    wire: Wire, models: ModelServer, purger: Any, query: Callable[..., Any]
) -> None:
    await wire.create("one", idle_ttl_s=1)
    sent = await send_held(wire, models, "one", "a")
    query(
        "UPDATE sessions SET used_at = used_at - interval '20 seconds', "
        "expiry_check_at = now() - interval '20 seconds'"
    )
    await purger.round()
    assert (await wire.get("one")).last_seq == 1
    models.release()
    assert (await sent.end()).last_seq == 2
    query("UPDATE sessions SET used_at = used_at - interval '20 seconds'")
    assert (
        await error_of(wire.sessions.GetSession(ss.GetSessionRequest(session_id="one")))
    ).reason == "SESSION_NOT_FOUND"


async def test_turns_are_listed_in_pages_the_newest_first(one: Wire) -> None:
    ids = [(await send(one, "one", text)).turn_id for text in "abcde"]
    request = cs.ListTurnsRequest(session_id="one", page_size=2)
    found = []
    while True:
        page = await one.conversations.ListTurns(request)
        found += [turn.turn_id for turn in page.turns]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert found == ids[::-1]
    assert [turn.turn_id for turn in await turns_of(one, state=TURN_STATE_COMPLETED)] == ids[::-1]
    assert await turns_of(one, state=TURN_STATE_FAILED) == []
    error = await error_of(turns_of(one, state=9))
    assert list(error.fields) == ["state"]


@pytest.mark.parametrize("has_turns", [True, False])
async def test_pages_do_not_go_on_in_another_session(one: Wire, has_turns: bool) -> None:
    """The session is recreated. Even if the new one has no turns, the next page is refused."""
    for text in "abc":
        await send(one, "one", text)
    request = cs.ListTurnsRequest(session_id="one", page_size=2)
    request.page_token = (await one.conversations.ListTurns(request)).next_page_token
    await one.delete("one")
    await one.create("one")
    if has_turns:
        ids = [(await send(one, "one", text)).turn_id for text in "xyz"]
    error = await error_of(one.conversations.ListTurns(request))
    assert error.reason == "SESSION_NOT_FOUND"
    request.page_token = ""
    turns = (await one.conversations.ListTurns(request)).turns
    assert [turn.turn_id for turn in turns] == (ids[:0:-1] if has_turns else [])


async def test_a_token_of_an_earlier_version_continues_the_list(one: Wire) -> None:
    """Tokens of earlier versions contain no incarnation."""
    ids = [(await send(one, "one", text)).turn_id for text in "abc"]
    request = cs.ListTurnsRequest(session_id="one", page_size=2)
    token = (await one.conversations.ListTurns(request)).next_page_token
    _, fingerprint, turn_id, _ = json.loads(urlsafe_b64decode(token + "=="))
    request.page_token = encode_token(fingerprint, turn_id)
    assert [turn.turn_id for turn in (await one.conversations.ListTurns(request)).turns] == ids[:1]
