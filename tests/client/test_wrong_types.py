"""Every public call with values of wrong types: only typed errors come out, never Python's own."""

import asyncio
import inspect
import math
import typing
from collections.abc import Hashable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass

from sessiond import Lease, NewMessage, ProjectLimits, SessiondError
from sessiond._async._lazy import AsyncLazy
from sessiond._requests.input import add_batch
from sessiond._requests.turns import Sending
from sessiond._sync._lazy import Lazy
from sessiond.v1 import session_pb2
from sessiond.v1.message_pb2 import Part
from sessiond.v1.session_service_pb2 import StoreMessagesRequest

from ..support.waiting import PATIENCE_S
from .conftest import FILES, Colour, FakeServer

WRONG: list[Any] = [
    None,
    True,
    5,
    -1,
    2**70,
    10**400,
    1.5,
    math.nan,
    "text",
    "",
    "half \ud83d",
    "a\0b",
    b"\xff",
    object(),
    [object()],
    [[]],
    [None],
    [2**70],
    ["half \ud83d"],
    {"a": object()},
    {"a": b"x"},
    {1: 2},
    {(): 2},
    {1},
    datetime(2026, 1, 1),
    timedelta.max,
    int,
]

# A valid value for each parameter that has no default or that changes the course of a call.
RIGHT: dict[str, Any] = {
    "session_id": "s",
    "task_id": "t",
    "name": "n",
    "queue": "q",
    "seq": 1,
    "turn_id": "0199c0de-0000-7000-8000-000000000000",
    "blob": {"role": "user", "content": "x"},
    "messages": [{"role": "user", "content": "x"}],
    "asset_id": "0" * 64,
    "project": "p",
    "key_id": "k",
    "task_ids": ["t"],
    "lease": Lease("l", "q", "s", [(1, 2)], datetime.now(UTC), 1),
    "handler": lambda *_: None,
    "stop_when_empty": True,
    "type_or_handler": "user.message",
    "path": "export.jsonl",
    "paths": ["transcripts"],
    "program": "claude-code",
    "failed": True,
    "source": {"session": {}},
    "limits": ProjectLimits(),
}


def calls_of(target: Any) -> dict[str, Any]:
    """Return the public methods of an object."""
    methods = inspect.getmembers(target, inspect.ismethod)
    # `call` takes a method and a request of the generated stubs, which check their own types.
    skipped = ("start", "stop", "close", "call")
    return {
        name: method for name, method in methods if not name.startswith("_") and name not in skipped
    }


def parameters_of(function: Any) -> Iterator[tuple[str, bool]]:
    """Yield the names of a function's parameters, and whether a value is required."""
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            hints = typing.get_type_hints(function, include_extras=True)
            for key in typing.get_args(hints[name])[0].__annotations__:
                yield key, False
        else:
            yield name, parameter.default is inspect.Parameter.empty


async def outcome(colour: Colour, function: Any, arguments: dict[str, Any]) -> None:
    """Call a function, and await or iterate over its whole result."""
    result = (
        function(**arguments) if colour.is_async else await asyncio.to_thread(function, **arguments)
    )
    if isinstance(result, AsyncLazy | Lazy):
        await colour.collect(result)
    elif inspect.isawaitable(result):
        await result
    elif hasattr(result, "__aenter__"):
        async with result:
            pass
    elif hasattr(result, "__enter__"):
        await asyncio.to_thread(result.__enter__)
        await asyncio.to_thread(result.__exit__, None, None, None)


@pytest.fixture
def answering(server: FakeServer) -> FakeServer:
    """A server that answers every unary call, with an empty response."""
    for file in FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                if not method.server_streaming:
                    server.on(method.name, GetMessageClass(method.output_type)())
    server.on("CreateSession", session_pb2.Session(session_id="s", last_seq=1))
    return server


async def check(colour: Colour, function: Any, where: str) -> list[str]:
    """Call a function with each wrong value for each parameter; return the unexpected outcomes."""
    faults = []
    parameters = list(parameters_of(function))
    also = ("stop_when_empty",)
    needed = {name: RIGHT[name] for name, is_needed in parameters if is_needed or name in also}
    for name, _ in parameters:
        for value in WRONG:
            if name == "stop_when_empty" and not value:
                continue
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await outcome(colour, function, {**needed, name: value})
            except SessiondError:
                pass
            except OSError as error:
                # For these parameters a string is no wrong value, but the path of a missing file.
                if name not in ("path", "source") or not isinstance(value, str):
                    faults.append(f"{where}({name}={value!r}): {error!r}")
            except Exception as error:
                faults.append(f"{where}({name}={value!r}): {error!r}")
    return faults


GROUPS = ["client", "sessions", "tasks", "bookmarks", "processing", "assets", "admin"]
HANDLES = ["session", "session.tasks", "session.bookmarks", "pool"]


@pytest.mark.parametrize("group", [*GROUPS, *HANDLES])
async def test_wrong_types_raise_typed_errors_only(
    colour: Colour,
    client: Any,
    pools: Any,
    group: str,
    answering: FakeServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    impatient: None,
) -> None:
    monkeypatch.chdir(tmp_path)
    faults: list[str] = []
    async with pools() as pool:
        session = await colour.call(client.create_session, "s")
        monkeypatch.setitem(RIGHT, "session", session)
        match group.partition("."):
            case ("client", *_):
                target: Any = client
            case ("session", _, part):
                target = getattr(session, part) if part else session
            case ("pool", *_):
                target = pool
            case _:
                target = getattr(client, group)
        for name, function in calls_of(target).items():
            faults += await check(colour, function, f"{group}.{name}")
    assert not faults, "\n".join(faults)


def only_typed_errors(function: Any, *arguments: Any) -> None:
    try:
        function(*arguments)
    except SessiondError:
        pass
    except Exception as error:
        raise AssertionError(f"{arguments!r}: {error!r}") from error


@pytest.mark.parametrize("field", ["blob", "format", "metadata", "parent_seq", "parts", "role"])
def test_wrong_types_in_a_new_message_raise_typed_errors_only(field: str) -> None:
    for value in WRONG:
        for right in ({"blob": {"role": "user"}}, {"parts": [Part(text="x")], "role": "user"}):
            message = NewMessage(**{**right, field: value})
            only_typed_errors(add_batch, StoreMessagesRequest().messages, [message], None)


ATTACHED = ("path", "data", "uri", "asset_id", "media_type", "name", "type", "other")


def test_wrong_types_in_what_is_sent_raise_typed_errors_only() -> None:
    for value in WRONG:
        key = value if isinstance(value, Hashable) else "unknown"
        for prompt in (
            {"prompt": value},
            {"messages": value},
            {"messages": [value]},
            {key: 1},
            {"prompt": "x", "options": value},
            {"prompt": "x", "attachments": value},
            {"prompt": "x", "attachments": [value]},
            *({"prompt": "x", "attachments": [{name: value}]} for name in ATTACHED),
            *({"attachments": [{"data": b"x", name: value}]} for name in ATTACHED),
        ):
            only_typed_errors(Sending, "s", prompt, {})
