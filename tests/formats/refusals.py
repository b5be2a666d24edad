"""Cases of the strict stand-ins: pairs of an accepted and a refused request."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from ..support.strict_models.refusal import JSON, Refusal

PNG = "iVBORw0KGgo="
JPEG = "/9j/4AAQ"


class Case(NamedTuple):
    """A rule.

    Attributes:
        name: what the rule is about.
        taken: a request that obeys it.
        refused: a request that breaks it.
        says: a part of the refusal's message.
    """

    name: str
    taken: JSON
    refused: JSON
    says: str


def each(*cases: Case) -> pytest.MarkDecorator:
    """Parametrize a test with cases."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases])


def check(validate: Callable[..., None], case: Case, **options: Any) -> Refusal:
    """Check both requests of a case.

    Args:
        validate: the stand-in's validator.
        case: the case.
        options: passed on to the validator.

    Returns:
        The refusal of the second request.
    """
    validate(case.taken, **options)
    with pytest.raises(Refusal) as caught:
        validate(case.refused, **options)
    assert case.says in caught.value.message
    return caught.value


def nested(levels: int) -> Any:
    """Return arrays in arrays."""
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value
