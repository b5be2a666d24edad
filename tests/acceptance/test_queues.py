"""Four worker processes drain a queue while two are killed.

Every message is processed, in order, by one worker at a time.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sessiond import AsyncClient, Client, ProcessingCounts

from ..support.processes import ServerProcess
from ..support.waiting import until

Start = Callable[..., ServerProcess]

SESSIONS = 1000
MESSAGES = 100
WORKERS = 4

# A worker as a user would write it. It appends what it processed to its own file PATH, with the
# machine's monotonic time. If PATH.before exists, it waits before it processes messages. If
# PATH.after exists, it waits afterwards. Tests kill it while it waits.
WORKER = """
import json, os, sys, time
from sessiond import Client

target, path = sys.argv[1:]
out = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def wait_for_the_end(moment):
    if os.path.exists(f"{path}.{moment}"):
        open(f"{path}.waits", "w").close()
        time.sleep(600)

def handle(lease, messages):
    start = time.monotonic_ns()
    wait_for_the_end("before")
    seqs = [message.seq for message in messages]
    assert seqs == lease.seqs
    texts = [json.loads(message.json)["content"] for message in messages]
    assert texts == [f"{lease.session_id} {seq}" for seq in seqs]
    line = [lease.session_id, seqs[0], seqs[-1], start, time.monotonic_ns(), lease.attempt]
    os.write(out, (json.dumps(line) + "\\n").encode())
    wait_for_the_end("after")

with Client(target) as client:
    client.processing.work(
        "index", handle, worker=path, max_messages=40, lease_duration=4.0, idle_wait=1.0
    )
"""


@dataclass(frozen=True)
class Done:
    """Messages that a worker processed.

    Attributes:
        start: nanoseconds of the machine's monotonic clock.
        end: nanoseconds of the same clock.
    """

    session_id: str
    first: int
    last: int
    start: int
    end: int
    attempt: int
    worker: str


class WorkerProcess:
    """A worker process."""

    def __init__(self, target: str, path: Path) -> None:
        self.path = path
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SESSIOND_")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, target, str(path)], env=environment
        )

    def lines(self) -> int:
        return self.path.read_bytes().count(b"\n") if self.path.exists() else 0

    def kill_at_work(self, moment: str) -> None:
        """Kill the process while it holds a lease.

        Args:
            moment: "before" = before it processes the messages. "after" = after that, and before it
                acknowledges them.
        """
        self.path.with_name(f"{self.path.name}.{moment}").touch()
        until(
            self.path.with_name(f"{self.path.name}.waits").exists,
            f"the worker was at work, {moment} its processing",
        )
        assert self.process.poll() is None
        self.kill()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def done(self) -> list[Done]:
        return [
            Done(*json.loads(line), worker=self.path.name)
            for line in self.path.read_text().splitlines()
        ]


@contextmanager
def ended(workers: list[WorkerProcess]) -> Iterator[None]:
    """Kill the workers that are left at the end."""
    try:
        yield
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                worker.kill()


async def fill(target: str) -> None:
    async with AsyncClient(target) as client:

        async def one(number: int) -> None:
            name = f"s{number}"
            await client.create_session(name)
            await client.sessions.store_messages(
                name,
                [f'{{"role":"user","content":"{name} {seq}"}}' for seq in range(1, MESSAGES + 1)],
            )

        for begin in range(0, SESSIONS, 50):
            await asyncio.gather(*(one(number) for number in range(begin, begin + 50)))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_workers_that_die_lose_nothing(data_dir: Path, tmp_path: Path, start_server: Start) -> None:
    server = start_server(SESSIOND_DATA_DIR=str(data_dir))
    asyncio.run(fill(server.target))
    rng = random.Random(7)
    began = time.monotonic()
    workers = [
        WorkerProcess(server.target, tmp_path / f"worker-{number}") for number in range(WORKERS)
    ]
    with ended(workers), Client(server.target) as client:
        victim = workers[0]
        for moment in ("before", "after"):
            enough = rng.randint(20, 120)
            until(
                lambda victim=victim, enough=enough: victim.lines() >= enough,
                "the worker had done some of it",
            )  # type: ignore[misc]
            victim.kill_at_work(moment)
            victim = WorkerProcess(server.target, tmp_path / f"worker-after-{moment}")
            workers.append(victim)
        all_done = ProcessingCounts(pending=0, running=0, success=SESSIONS * MESSAGES, failed=0)
        until(
            lambda: client.processing.counts("index") == all_done,
            "all was processed",
            timeout_s=300,
        )
        took = time.monotonic() - began
        assert client.processing.lease("index") == []
        assert [worker.process.poll() for worker in workers].count(None) == WORKERS
    # The first killed worker had not processed its messages yet, but the second one had.
    check([done for worker in workers for done in worker.done()], repeated=workers[-2].path.name)
    messages = SESSIONS * MESSAGES
    print(
        f"{messages} messages of {SESSIONS} sessions in {took:.1f} s: "
        f"{messages / took:.0f} a second"
    )
    assert server.terminate() == 0


def check(all_done: list[Done], repeated: str) -> None:
    by_session: dict[str, list[Done]] = defaultdict(list)
    for done in all_done:
        by_session[done.session_id].append(done)
    assert set(by_session) == {f"s{number}" for number in range(SESSIONS)}
    repeats = []
    for session in by_session.values():
        session.sort(key=lambda done: done.start)
        reached, end = 0, 0
        for done in session:
            if done.first <= reached:
                repeats.append(done)
            else:
                assert done.first == reached + 1
                reached = done.last
            # Only one worker at a time processes messages of a session.
            assert done.start > end
            end = done.end
        assert reached == MESSAGES
    # Messages that were processed but not acknowledged come again, once, to another worker. All
    # others come once.
    [again] = repeats
    [first] = [
        done
        for done in by_session[again.session_id]
        if done.last == again.last and done is not again
    ]
    assert (first.worker, first.first) == (repeated, again.first)
    assert again.worker != repeated
    # Other workers took over the leases of both killed workers.
    assert sorted(done.attempt for done in all_done if done.attempt > 1) == [2, 2]
