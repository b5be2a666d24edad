"""The shapes of Anthropic's blocks are those of its SDK."""

from collections.abc import Iterator
from typing import Any, Literal, Required, Union, get_args, get_origin

import pytest
from typing_extensions import get_type_hints, is_typeddict

from sessiond_server.dialects.anthropic_shapes import BLOCKS, SERVER_CALL, SERVER_RESULTS
from sessiond_server.dialects.shapes import Misfit, Shape

anthropic_types = pytest.importorskip("anthropic.types")
SHAPES = {**BLOCKS, **SERVER_RESULTS, "server_tool_use": SERVER_CALL}
CASES = [
    (kind, place)
    for kind in sorted(SHAPES)
    for place in range(3)  # alternatives of unions
]


def sdk_types() -> dict[str, Any]:
    """Return the SDK's type of each block, by the block's type."""
    kinds = [
        *get_args(anthropic_types.ContentBlockParam),
        anthropic_types.ToolReferenceBlockParam,
        anthropic_types.BrowserStateBlockParam,
    ]
    return {get_args(get_type_hints(kind)["type"])[0]: kind for kind in kinds}


def example(kind: Any, place: int) -> Any:
    """Return an example of a type, with all of its keys.

    `place` is the index of the alternative to use in a union or a Literal.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Required:
        return example(arguments[0], place)
    if origin is Literal:
        return arguments[place % len(arguments)]
    if origin is Union:
        return example(arguments[place % len(arguments)], place)
    if is_typeddict(kind):
        return {key: example(hint, place) for key, hint in get_type_hints(kind).items()}
    if origin is dict or kind is dict:
        return {"q": 1}
    if origin is not None:
        return [example(arguments[0], number) for number in range(5)]
    return {str: "x", int: 3, bool: True, type(None): None}[kind]


def all_notes(shape: Shape, value: Any) -> Iterator[str]:
    notes: list[str] = []
    assert shape(value, "block", notes.append) == value
    yield from notes


def test_each_type_of_block_has_a_shape() -> None:
    assert sdk_types().keys() == SHAPES.keys()


@pytest.mark.parametrize(("kind", "place"), CASES)
def test_what_the_sdk_can_write_is_unchanged(kind: str, place: int) -> None:
    value = example(sdk_types()[kind], place)
    if kind in ("image", "document"):
        value["source"] = {"type": "url", "url": "https://e.com"}
    assert not [*all_notes(SHAPES[kind], value)]


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_other_keys_are_left_out(kind: str) -> None:
    value = example(sdk_types()[kind], 0)
    notes: list[str] = []
    assert SHAPES[kind]({**value, "extra": 1}, kind, notes.append) == value
    assert notes == [f"{kind}.extra"]


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_what_the_api_requires_has_to_be_there(kind: str) -> None:
    sdk_type = sdk_types()[kind]
    for key in sdk_type.__required_keys__:
        value = example(sdk_type, 0)
        del value[key]
        with pytest.raises(Misfit):
            SHAPES[kind](value, kind, lambda path: None)
