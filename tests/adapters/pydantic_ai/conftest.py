"""The store under test. Without the framework, the tests that use it are skipped."""

from typing import Any

import pytest


@pytest.fixture
def store(target: str, namespace: str) -> Any:
    """A store of Pydantic AI's conversations."""
    from sessiond.adapters.pydantic_ai import SessiondConversationStore

    return SessiondConversationStore(target=target, namespace=namespace)


@pytest.fixture
def other(target: str, namespace: str) -> Any:
    """A second store for the same conversations. It remembers nothing that the first store read."""
    from sessiond.adapters.pydantic_ai import SessiondConversationStore

    return SessiondConversationStore(target=target, namespace=namespace)
