"""A plugin for Strands' own tests: replaces their mock by our repository.

It runs in a pytest of Strands' tests (see tests/adapters/suites.py), which cannot import our tests'
modules.
"""

import functools
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from sessiond.adapters.strands import SessiondSessionRepository
from tests.fixtures import mock_session_repository


class Repository(SessiondSessionRepository):
    """Our repository, in a namespace of its own."""

    def __init__(self) -> None:
        super().__init__(namespace=uuid.uuid4().hex)


mock_session_repository.MockedSessionRepository = Repository  # type: ignore[misc]

_used: set[str] = set()
_test = ""


def _counted(name: str) -> Any:
    method = getattr(SessiondSessionRepository, name)

    @functools.wraps(method)
    def call(*args: Any, **keywords: Any) -> Any:
        _used.add(_test)
        return method(*args, **keywords)

    return call


for _name in [name for name in dir(SessiondSessionRepository) if not name.startswith("_")]:
    setattr(Repository, _name, _counted(_name))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    global _test  # noqa: PLW0603
    _test = item.nodeid
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    if item.nodeid in _used:
        item.user_properties.append(("uses_sessiond", "yes"))
    return (yield)
