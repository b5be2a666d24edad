"""Helpers of the tests of copies."""

import json
from collections.abc import Callable
from typing import Any

from sessiond.v1.message_pb2 import Message

Query = Callable[..., list[tuple[Any, ...]]]


def said(messages: list[Message]) -> list[str]:
    return [json.loads(message.json)["content"] for message in messages]
