"""Made-up conversations with a library's agent: the same at every run, and as odd as real ones.

They are OpenAI chat messages with and without tool calls, one or several at once.
"""

import json
import random
from typing import Any

COUNT = 100
LONG, LARGE = 70, 30  # the numbers of the longest conversation, and of the one with a large message
LARGE_CHARACTERS = 300_000

WORDS = [
    *("a", "loan", "of", "this", "old", "atlas", "ends", "on", "Friday", "or", "when", "the"),
    *("reader", "asks", "for", "more", "time"),
    "Größe",
    "“quoted”",
    '"12-A"',
    "C:\\shelf\\7",
    "and/or",
    "日本の地図",
    "e\u0301te\u0301",  # decomposed accents
    "👩‍👩‍👧",  # joined by U+200D
    "𝔸𝔹",  # outside the Basic Multilingual Plane
    "\u202bשלום\u202c",  # right to left
    "line\nbreak\r\n",
    "tab\tend",
    "\u2028",  # a line separator of Unicode, but not of JSON
    "\x7f\x01",
    "<|endoftext|>",
    "&amp;%20\\u0061",
]
# Arguments as models write them: text that may differ from the output of a JSON serializer.
ARGUMENTS = [
    "{}",
    '{"shelf":7}',
    '{ "title" : "Atlas \\u00e9" ,\n"price": 12.50 }',
    '{"ids": [1, 2.0, 1e3, -0], "deep": {"a": {"b": [null, true, {}]}}}',
    '{"isbn":123456789012345678901234567890,"note":"half \\" quote"}',
]


def made_up_conversations() -> list[dict[str, Any]]:
    """Return the conversations: a session_id, a reward from 0 to 1, and the messages of each."""
    return [
        {
            "session_id": f"library-{number:03}",
            "reward": random.Random(number).choice([0.0, 0.5, 1.0]),
            "messages": _messages(random.Random(number), number),
        }
        for number in range(COUNT)
    ]


def _messages(rng: random.Random, number: int) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": _text(rng, 400 if number % 2 else 20)},
        {"role": "user", "content": _text(rng, 9)},
    ]
    for turn in range(150 if number == LONG else rng.randint(1, 12)):
        for step in range(rng.randint(0, 2)):
            calls = [f"call_{turn}_{step}_{i}" for i in range(rng.choice([1, 1, 3]))]
            messages.append(
                {
                    # Most models only call a tool, but some also explain why.
                    "content": rng.choice([None, None, _text(rng, 5)]),
                    "role": "assistant",
                    "tool_calls": [
                        {
                            "id": call,
                            "function": {
                                "arguments": rng.choice(ARGUMENTS),
                                "name": "search_catalogue",
                            },
                            "type": "function",
                        }
                        for call in calls
                    ],
                }
            )
            messages += [
                {
                    "role": "tool",
                    "tool_call_id": call,
                    "name": "search_catalogue",
                    "content": rng.choice(
                        ["", "Error: no such shelf", json.dumps({"found": [_text(rng, 3)] * 2})]
                    ),
                }
                for call in calls
            ]
        messages.append({"content": _text(rng, rng.randint(1, 80)), "role": "assistant"})
        messages.append({"role": "user", "content": _text(rng, rng.randint(1, 30))})
    if number == LARGE:
        messages[-1]["content"] = (_text(rng, 40) * LARGE_CHARACTERS)[:LARGE_CHARACTERS]
    return messages


def _text(rng: random.Random, words: int) -> str:
    # Ends with a word: the Messages API refuses white space alone.
    return " ".join([*rng.choices(WORDS, k=words), "please"])
