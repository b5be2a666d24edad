"""The messages to store: OpenAI messages of about 500 bytes, identical in every run."""

import random
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any, TypeAlias

MessageDict: TypeAlias = dict[str, Any]

MEAN_JSON_BYTES = 500
SPREAD_JSON_BYTES = 200  # a message has between 300 and 700 bytes
FRAME_BYTES = 34  # e.g. {"role":"assistant","content":""}
TEXT_CHARACTERS = 200_000
WORDS = """
the session agent tool result message of and a to in is that file query model please look table
then row column error returned should would check find code test "quoted" why because history
stream append café naïve user asked answer follows below above request response function value
42 2.5 true list items next step, first second third. done
"""


def repeated(some: list[MessageDict], count: int) -> Iterator[MessageDict]:
    """Return `count` messages, starting over when they run out."""
    return islice(cycle(some), count)


def messages(count: int) -> list[MessageDict]:
    """Return `count` messages, alternately of user and assistant, each as its own dict."""
    choose = random.Random(20)
    text = " ".join(choose.choices([*WORDS.split(), "\n"], k=TEXT_CHARACTERS // 5))
    result: list[MessageDict] = []
    for number in range(count):
        length = (
            MEAN_JSON_BYTES - FRAME_BYTES + choose.randint(-SPREAD_JSON_BYTES, SPREAD_JSON_BYTES)
        )
        start = choose.randrange(len(text) - length)
        result.append(
            {"role": "assistant" if number % 2 else "user", "content": text[start : start + length]}
        )
    return result
