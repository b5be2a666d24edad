"""Four worker processes drain a queue, one of them is killed twice: every message is processed, in order, by one worker at a time."""

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
LEASE_S = 2.0

# A worker as its author would write it. What it processed it appends to a file of its own, with the time, which is that of the machine.
WORKER = """
import json, os, sys, time
from sessiond import Client

target, path = sys.argv[1:]
out = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def handle(lease, messages):
    start = time.monotonic_ns()
    seqs = [message.seq for message in messages]
    assert seqs == lease.seqs
    texts = [json.loads(message.json)["content"] for message in messages]
    assert texts == [f"{lease.session_id} {seq}" for seq in seqs]
    line = [lease.session_id, seqs[0], seqs[-1], start, time.monotonic_ns(), lease.attempt]
    os.write(out, (json.dumps(line) + "\\n").encode())

with Client(target) as client:
    client.processing.work("index", handle, worker=path, max_messages=40, lease_duration=2.0, idle_wait=1.0)
"""


@dataclass(frozen=True)
class Done:
    """Messages that a worker processed. start, end: nanoseconds of the machine's monotonic clock."""

    session_id: str
    first: int
    last: int
    start: int
    end: int
    attempt: int
    worker: str


class WorkerProcess:
    """A worker in a process of its own."""

    def __init__(self, target: str, path: Path) -> None:
        self.path = path
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SESSIOND_")}
        self.process = subprocess.Popen([sys.executable, "-c", WORKER, target, str(path)], env=environment)

    def lines(self) -> int:
        return self.path.read_bytes().count(b"\n") if self.path.exists() else 0

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def done(self) -> list[Done]:
        # A kill may cut the last line off: what was not written whole is not counted as processed.
        lines = [line for line in self.path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [Done(*json.loads(line), worker=self.path.name) for line in lines]


@contextmanager
def ended(workers: list[WorkerProcess]) -> Iterator[None]:
    """Leaves no worker behind."""
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
            await client.sessions.store_messages(name, [f'{{"role":"user","content":"{name} {seq}"}}' for seq in range(1, MESSAGES + 1)])

        for begin in range(0, SESSIONS, 50):
            await asyncio.gather(*(one(number) for number in range(begin, begin + 50)))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_workers_that_die_lose_nothing(crash_dir: Path, tmp_path: Path, start_server: Start) -> None:
    server = start_server(SESSIOND_DATA_DIR=str(crash_dir))
    asyncio.run(fill(server.target))
    rng = random.Random(7)
    began = time.monotonic()
    workers = [WorkerProcess(server.target, tmp_path / f"worker-{number}") for number in range(WORKERS)]
    with ended(workers), Client(server.target) as client:
        victim = workers[0]
        for number in range(2):
            # The moment is chosen by what it has done, so that it lies anywhere in its work.
            enough = rng.randint(20, 120)
            until(lambda victim=victim, enough=enough: victim.lines() >= enough, "the worker was at work")  # type: ignore[misc]
            assert victim.process.poll() is None
            victim.kill()
            victim = WorkerProcess(server.target, tmp_path / f"worker-again-{number}")
            workers.append(victim)
        all_done = ProcessingCounts(pending=0, running=0, success=SESSIONS * MESSAGES, failed=0)
        until(lambda: client.processing.counts("index") == all_done, "all was processed", timeout_s=300)
        took = time.monotonic() - began
        assert client.processing.lease("index") == []
        assert [worker.process.poll() for worker in workers].count(None) == WORKERS
    killed = {workers[0].path.name, workers[-2].path.name}
    check([done for worker in workers for done in worker.done()], killed)
    messages = SESSIONS * MESSAGES
    print(f"{messages} messages of {SESSIONS} sessions in {took:.1f} s: {messages / took:.0f} a second")
    assert server.terminate() == 0


def check(all_done: list[Done], killed: set[str]) -> None:
    by_session: dict[str, list[Done]] = defaultdict(list)
    for done in all_done:
        by_session[done.session_id].append(done)
    assert set(by_session) == {f"s{number}" for number in range(SESSIONS)}
    repeats = 0
    for session in by_session.values():
        session.sort(key=lambda done: done.start)
        reached = 0
        for before, done in zip([None, *session], session, strict=False):
            if before and done.first <= reached:
                # Only what a worker processed and could not acknowledge any more comes again: the whole of its last lease.
                repeats += 1
                assert before.worker in killed
                assert before.worker != done.worker
                assert (done.first, done.last) == (before.first, before.last)
                assert done.attempt == before.attempt + 1
            else:
                assert done.first == reached + 1
            # Nobody begins before the other has ended.
            assert before is None or done.start > before.end
            reached = done.last
        assert reached == MESSAGES
    assert repeats <= len(killed)
