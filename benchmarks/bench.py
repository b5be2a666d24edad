"""The common parts of the measurements of one run."""

import gc
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import count
from typing import Any

from database import Databases
from series import Results
from sizes import Sizes
from subjects import Subject
from workload import MessageDict

PERCENTILES = (50, 95, 99)
WARM_UP_APPENDS = 30


class Bench:
    """The subjects, the messages, and the results so far of one run.

    Args:
        subjects: the opened subjects of READERS and LOADERS, by name.
        addresses: the kind (one of subjects.KINDS) and the address of each subject of READERS, by
            name. The reading processes open the subjects again at these addresses.
        databases: the databases of the run.
        messages: the messages to store.
        sizes: the amounts to measure.
    """

    def __init__(
        self,
        subjects: Mapping[str, Subject],
        addresses: Mapping[str, tuple[str, str]],
        databases: Databases,
        messages: list[MessageDict],
        sizes: Sizes,
    ) -> None:
        self.results = Results()
        self.subjects = subjects
        self.addresses = addresses
        self.databases = databases
        self.messages = messages
        self.sizes = sizes
        self.numbers = count(1)

    async def new_session(self, subject: Subject) -> str:
        session_id = f"session-{next(self.numbers)}"
        await subject.create(session_id)
        return session_id

    def in_turns(self, names: tuple[str, ...], rounds: int) -> Iterator[tuple[str, Subject]]:
        """Yield every subject once in each round.

        Each round starts with another subject, so that no subject always runs after the same one.
        """
        for number in range(rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                yield name, self.subjects[name]


async def timed(work: Callable[[], Awaitable[Any]]) -> float:
    """Return the duration of the work in seconds, without the time to release its result."""
    gc.collect()
    started = time.perf_counter()
    result = await work()
    elapsed_s = time.perf_counter() - started
    del result
    return elapsed_s
