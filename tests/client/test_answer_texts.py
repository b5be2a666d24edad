"""Each character of a running answer is delivered once, over any number of connections."""

from typing import Any

import pytest

from sessiond._protocol.answer_texts import AnswerTexts
from sessiond.v1.event_pb2 import Event

pytestmark = pytest.mark.unit


def partial(text: str, *, answered: int = 1, turn: str = "t") -> Event:
    return _event("partial", turn, {"content": text, "answered_seq": answered})


def delta(text: str, offset: int, *, answered: int = 1, turn: str = "t") -> Event:
    data = {"delta_content": text, "offset": offset, "answered_seq": answered}
    return _event("delta", turn, data)


def _event(kind: str, turn: str, data: dict[str, Any]) -> Event:
    event = Event(type=f"assistant.message_{kind}")
    event.data.update({"turn_id": turn, **data})
    return event


def passed_on(*connections: list[Event]) -> list[str]:
    texts = AnswerTexts()
    return [
        event.data["content"] if "content" in event.data else "+" + event.data["delta_content"]
        for events in connections
        for event in texts.new_of(events)
    ]


def test_the_first_connection_is_passed_on_as_it_is() -> None:
    assert passed_on([partial("ab"), delta("c", 2), delta("d", 3)]) == ["ab", "+c", "+d"]


def test_after_a_reconnect_only_what_is_new_is_passed_on() -> None:
    assert passed_on([partial("ab"), delta("c", 2)], [partial("abcde"), delta("f", 5)]) == [
        "ab",
        "+c",
        "+de",
        "+f",
    ]


def test_a_text_that_is_already_known_is_not_passed_on() -> None:
    assert passed_on([partial("abc")], [partial("ab"), delta("cd", 2)]) == ["abc", "+d"]


def test_characters_are_code_points() -> None:
    smile = "\N{GRINNING FACE}"
    assert passed_on([delta(smile, 0)], [partial(f"{smile}b")]) == [f"+{smile}", "+b"]


def test_each_answer_of_a_turn_has_its_own_text() -> None:
    connections = [
        [delta("ab", 0)],
        [partial("xyz", answered=3), delta("c", 2, answered=1), delta("!", 3, answered=3)],
    ]
    assert passed_on(*connections) == ["+ab", "xyz", "+!"]


def test_turns_have_their_own_texts() -> None:
    assert passed_on([delta("a", 0), delta("b", 0, turn="u")]) == ["+a", "+b"]


def test_deltas_of_older_servers_are_passed_on() -> None:
    event = Event(type="assistant.message_delta")
    event.data.update({"turn_id": "t", "delta_content": "a"})
    assert passed_on([event], [event]) == ["+a", "+a"]
