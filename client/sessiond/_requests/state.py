"""Changes of a session's state."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from sessiond._protocol.checks import listed
from sessiond._protocol.json_text import encode_or_refuse
from sessiond._requests.fields import put_items
from sessiond.errors import invalid_field
from sessiond.v1.session_state_pb2 import StatePatch


class WithPatch(Protocol):
    """A request that can change the state of a session."""

    @property
    def state_patch(self) -> StatePatch: ...


def put_state_patch(
    request: WithPatch, state: Mapping[str, Any] | None, remove_state: Iterable[str] | None
) -> None:
    """Set the change of the state.

    Args:
        request: the request.
        state: new values by top-level key. None = none.
        remove_state: top-level keys to remove. None = none.

    Raises:
        InvalidField: if a value cannot be sent.
    """
    if state is not None:
        if not isinstance(state, Mapping):
            raise invalid_field("state", f"must be a dict, not {type(state).__name__}")
        for name, value in state.items():
            if not isinstance(name, str):
                raise invalid_field("state", f"has the key {name!r}, which is not a string")
            # The encoder takes only objects. Encode an object, and cut the value out of its JSON.
            encoded = encode_or_refuse({"": value}, f"state[{name!r}]").decode()
            try:
                request.state_patch.set[name] = encoded[len('{"":') : -1]
            except (TypeError, ValueError) as error:
                raise invalid_field(f"state[{name!r}]", f"cannot be sent: {error}") from error
    if remove_state is not None:
        put_items(request.state_patch.remove, listed(remove_state, "remove_state"), "remove_state")
