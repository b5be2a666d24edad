"""Adapters can be called from any event loop, from trio, from sync code, and after a fork."""

import asyncio
import gc
import importlib.util
import os
import subprocess
import sys
import textwrap
import threading

import pytest

from sessiond import AsyncClient, Client, InvalidField, SessionNotFound
from sessiond._requests.input import NewMessage
from sessiond.adapters import _backend, _portal
from sessiond.adapters._backend import Backend, append, errors_as
from tests.support.waiting import until

FRAMEWORKS = ("agents", "claude_agent_sdk", "pydantic_ai", "strands", "trio", "anyio", "sniffio")

needs_trio = pytest.mark.skipif(
    not importlib.util.find_spec("trio"),
    reason="trio is not installed; `make adapters-test` has it",
)


@pytest.fixture
def backend(target: str, namespace: str) -> Backend:
    return Backend(target=target, namespace=namespace)


async def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


@pytest.mark.parametrize("has_uvloop", [False, True])
def test_the_portal_runs_with_and_without_uvloop(
    has_uvloop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if has_uvloop:
        kind = pytest.importorskip("uvloop").Loop
    else:
        monkeypatch.setitem(sys.modules, "uvloop", None)
        kind = asyncio.SelectorEventLoop
    portal = _portal.Portal()
    try:
        work = portal.submit(_loop)
        assert isinstance(work.result(), kind)
    finally:
        portal.close()


async def last_seq(backend: Backend, session_id: str) -> int:
    async def call(client: AsyncClient) -> int:
        return (await client.sessions.get(session_id)).last_seq

    return await backend.run(call)


async def add(backend: Backend, session_id: str) -> None:
    async def call(client: AsyncClient) -> None:
        await append(client, session_id, [NewMessage(b'{"role":"user","content":"a"}')], create={})

    await backend.run(call)


async def test_one_backend_is_called_from_several_loops_at_once(backend: Backend) -> None:
    session_id = backend.session_id("s")

    async def work() -> None:
        for _ in range(5):
            await add(backend, session_id)

    await asyncio.gather(*(asyncio.to_thread(asyncio.run, work()) for _ in range(4)), work())
    assert await last_seq(backend, session_id) == 25


def test_loops_come_and_go_while_the_connection_stays(backend: Backend) -> None:
    session_id = backend.session_id("s")
    for _ in range(3):
        asyncio.run(add(backend, session_id))
    assert asyncio.run(last_seq(backend, session_id)) == 3


async def test_sync_code_inside_a_running_loop_may_block_it(backend: Backend) -> None:
    async def create(client: AsyncClient) -> str:
        return (await client.sessions.create(backend.session_id("s"))).session_id

    assert backend.run_sync(create) == backend.session_id("s")


@needs_trio
def test_trio_can_call_it_and_cancel_it(backend: Backend) -> None:
    import trio

    session_id = backend.session_id("s")
    cancelled = threading.Event()

    async def never(client: AsyncClient) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def main() -> int:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(add, backend, session_id)
        with trio.move_on_after(0.01) as scope:
            await backend.run(never)
        assert scope.cancelled_caught
        return await last_seq(backend, session_id)

    assert trio.run(main) == 5
    assert cancelled.wait(30)


@needs_trio
def test_trio_waits_for_the_outcome_of_a_cancelled_change(backend: Backend) -> None:
    import trio

    outcome: list[str] = []

    async def main() -> None:
        started, proceed = threading.Event(), threading.Event()

        async def change(client: AsyncClient) -> None:
            started.set()
            await asyncio.to_thread(proceed.wait)
            outcome.append("done")

        async with trio.open_nursery() as nursery:

            async def mutate() -> None:
                await backend.run(change, settles=True)
                outcome.append("not cancelled")

            nursery.start_soon(mutate)
            await trio.to_thread.run_sync(started.wait)
            nursery.cancel_scope.cancel()
            proceed.set()

    trio.run(main)
    assert outcome == ["done"]


async def test_a_cancelled_caller_cancels_the_call(backend: Backend) -> None:
    started, cancelled = threading.Event(), threading.Event()

    async def never(client: AsyncClient) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    task = asyncio.create_task(backend.run(never))
    assert await asyncio.to_thread(started.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(cancelled.wait, 30)


async def test_a_change_that_settles_ends_before_its_cancelled_caller(backend: Backend) -> None:
    started, proceed = threading.Event(), threading.Event()
    ended: list[bool] = []

    async def change(client: AsyncClient) -> None:
        started.set()
        await asyncio.to_thread(proceed.wait)
        ended.append(True)

    task = asyncio.create_task(backend.run(change, settles=True))
    assert await asyncio.to_thread(started.wait, 30)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    proceed.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]


def test_a_call_from_the_portal_itself_is_refused_instead_of_hanging(backend: Backend) -> None:
    async def nested(client: AsyncClient) -> None:
        async def inner(client: AsyncClient) -> None:
            raise AssertionError

        backend.run_sync(inner)

    with pytest.raises(RuntimeError, match="from a callback of one of its own calls"):
        backend.run_sync(nested)


def test_errors_reach_the_caller_and_become_those_of_a_framework(backend: Backend) -> None:
    class TheirsError(Exception):
        pass

    async def get(client: AsyncClient) -> None:
        await client.sessions.get(backend.session_id("missing"))

    with pytest.raises(SessionNotFound):
        backend.run_sync(get)
    with (
        pytest.raises(TheirsError, match="SESSION_NOT_FOUND") as raised,
        errors_as({SessionNotFound: lambda error: TheirsError(str(error))}),
    ):
        backend.run_sync(get)
    assert isinstance(raised.value.__cause__, SessionNotFound)


def test_adapters_with_equal_settings_share_a_connection_and_close_it_when_it_is_old() -> None:
    one, two = Backend(target="127.0.0.1:1"), Backend(Client("127.0.0.1:1"))
    assert one._connection is two._connection
    assert Backend(target="127.0.0.1:2")._connection is not one._connection
    assert Backend(target="127.0.0.1:1", api_key="k")._connection is not one._connection
    stopped = one._connection.client
    opened = threading.Event()

    async def call(client: AsyncClient) -> None:
        await client.start()
        opened.set()

    one.run_sync(call)
    del one, two
    for i in range(_backend._IDLE_CONNECTIONS):
        Backend(target=f"127.0.0.1:{i + 10}")
    gc.collect()
    until(lambda: stopped._connection._closed, "the connection is closed")


def test_a_clients_settings_are_used_but_not_its_loop(target: str, namespace: str) -> None:
    given = AsyncClient(target, timeout=7)
    backend = Backend(given, namespace=namespace)
    asyncio.run(given.stop())
    asyncio.run(add(backend, backend.session_id("s")))
    assert backend._connection.client._connection.settings.timeout == 7


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"client": "localhost"}, "client"),
        ({"client": Client("a"), "target": "b"}, "target"),
        ({"client": Client("a"), "api_key": "b"}, "api_key"),
        ({"namespace": ""}, "namespace"),
        ({"namespace": 1}, "namespace"),
        ({"namespace": "\ud800"}, "namespace"),
        ({"namespace": "ä" * 100}, "namespace"),
        ({"target": "http://a"}, "target"),
    ],
)
def test_wrong_arguments_are_refused_with_their_name(
    arguments: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidField) as raised:
        Backend(**arguments)  # type: ignore[arg-type]
    assert [violation.field for violation in raised.value.field_violations] == [field]


def test_namespaces_and_parts_never_give_the_same_id() -> None:
    def path(namespace: str | None, *texts: str) -> str:
        parts = (_backend.part(text, 200, "part") for text in texts)
        return Backend(target="x", namespace=namespace).path(*parts)

    long = "a" * 1_000
    paths = [
        path("a", "b/c"),
        path("a/b", "c"),
        path("a%2Fb", "c"),
        path("a", "b", "c"),
        path("a", long),
        path("a", long + "b"),
        path("a", path(None, long)),
    ]
    assert len(set(paths)) == len(paths)
    assert all(len(made) <= 202 for made in paths)
    assert _backend.message_id("a" * 256) == "a" * 256
    assert _backend.message_id("a" * 257) != _backend.message_id("a" * 258)


@pytest.mark.parametrize("session_id", ["", "a" * 1_025, None])
def test_ids_that_the_server_could_not_take_are_refused(session_id: str) -> None:
    with pytest.raises(InvalidField):
        Backend(target="x").session_id(session_id)


def python(program: str, environment: dict[str, str]) -> str:
    """Run a program, and return what it prints; it must print no error."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        # Without this, gRPC writes a note about the fork to stderr.
        env={**environment, "GRPC_VERBOSITY": "NONE"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


PROGRAM = """
import asyncio, os
from sessiond.adapters import _portal
from sessiond.adapters._backend import Backend

backend = Backend()

async def call(client):
    return (await client.sessions.create()).last_seq

def fork():
    if os.fork() == 0:
        try:
            print(backend.run_sync(call), flush=True)
        except RuntimeError as error:
            print(error, flush=True)
        finally:
            os._exit(0)
    os.wait()
"""


def test_importing_the_client_and_the_backend_brings_no_framework(
    environment: dict[str, str],
) -> None:
    program = "import sys, sessiond, sessiond.adapters._backend; print(*sys.modules)"
    assert not set(FRAMEWORKS) & set(python(program, environment).split())


def test_a_process_that_used_an_adapter_ends_in_silence(environment: dict[str, str]) -> None:
    program = """
print(backend.run_sync(call))
_portal.portal().submit(asyncio.Event().wait)
"""
    assert python(PROGRAM + program, environment) == "0\n"


def test_a_portal_can_be_shut_down_before_the_process_ends(environment: dict[str, str]) -> None:
    program = """
print(backend.run_sync(call))
_portal.shut_down()
try:
    backend.run_sync(call)
except Exception as error:
    print(error)
"""
    assert python(PROGRAM + program, environment) == "0\nCLIENT_CLOSED: the process is ending\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_before_the_first_call_leaves_two_working_processes(
    environment: dict[str, str],
) -> None:
    program = "fork(); print(backend.run_sync(call))"
    assert python(PROGRAM + program, environment) == "0\n0\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_after_a_call_is_refused_in_the_child_instead_of_hanging(
    environment: dict[str, str],
) -> None:
    program = "backend.run_sync(call); fork(); print(backend.run_sync(call))"
    child, parent = python(PROGRAM + program, environment).splitlines()
    assert "fork before the first call" in child
    assert parent == "0"
