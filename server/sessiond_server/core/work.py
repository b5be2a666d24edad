"""What the current task works for: a call of one method, or one job in the background."""

from contextvars import ContextVar

_work: ContextVar[str] = ContextVar("work", default="")


def begin_work(kind: str) -> None:
    """Remember what the current task, and the tasks that it creates, work for.

    Args:
        kind: name of an RPC or of a background job.
    """
    _work.set(kind)


def current_work() -> str:
    """Return what the current task works for; "" = unknown."""
    return _work.get()
