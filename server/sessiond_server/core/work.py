"""The kind of work that the current task does: a call of an RPC, or a background job."""

from contextvars import ContextVar

_work: ContextVar[str] = ContextVar("work", default="")


def begin_work(kind: str) -> None:
    """Set the kind of work of the current task and of the tasks that it creates.

    Args:
        kind: name of an RPC or of a background job.
    """
    _work.set(kind)


def current_work() -> str:
    """Return the kind of work that the current task does; "" = unknown."""
    return _work.get()
