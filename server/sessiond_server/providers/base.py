"""What a turn asks of a model, and what comes back. Providers implement Provider; `routing` finds the one for a name."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from sessiond.v1.message_pb2 import Format, Message
from sessiond.v1.turn_pb2 import Usage


class ModelFault(Exception):
    """A model cannot be asked, or did not answer.

    Args:
        reason: the ErrorReason, one of MODEL_NOT_CONFIGURED, MODEL_ACCESS_DENIED, MODEL_RATE_LIMITED, MODEL_REQUEST_REJECTED,
            MODEL_UNAVAILABLE, MODEL_TIMED_OUT, MODEL_ANSWER_INVALID.
        message: for people; never with a key in it.
        metadata: the keys that error_reason.proto names, but for session_id and turn_id.
        retry_after_s: when the provider said that it would answer again.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, object] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class AssetContent:
    """A file that a message refers to. media_type: "" = unknown."""

    content: bytes
    media_type: str


LoadAsset: TypeAlias = Callable[[str], Awaitable[AssetContent]]
"""Takes an asset_id. Raises: ModelFault MODEL_REQUEST_REJECTED where it is too large to be sent."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call of a model.

    Args:
        model: the name as the provider knows it.
        messages: the history, the oldest first, as stored: each has role, and json with format, or parts.
        system_prompt: instructions above the history that are not part of it. "" = none.
        options: go into the request as they are (temperature, max_tokens, tools, ...); what the provider's class sets itself (model,
            messages, stream) wins.
        load_asset: gets the content of an asset that a message refers to.
    """

    model: str
    messages: Sequence[Message]
    load_asset: LoadAsset
    system_prompt: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delta:
    """Text that the model added. is_reasoning: to its thinking, not to its answer."""

    text: str
    is_reasoning: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole answer.

    Args:
        json: the assistant's message in the provider's own form, as it will be stored and sent back: tool calls, signatures and all.
        model: as the provider names it in its answer.
        stop_reason: in the provider's own word; "" = it did not say.
        usage: None = not reported.
    """

    json: str
    model: str
    stop_reason: str
    usage: Usage | None


class Provider(Protocol):
    """Someone who answers for models."""

    @property
    def name(self) -> str:
        """Its name in the server's settings."""

    @property
    def format(self) -> Format.ValueType:
        """Of its messages' JSON: that of its answers, and that in which a prompt for it is stored."""

    def ask(self, request: ModelRequest) -> AsyncGenerator[Delta | Answer, None]:
        """Ask once: deltas as they come, then the answer, exactly one. Closing the generator ends the request.

        Raises: ModelFault, after the retries that are safe: never once a delta was given.
        """

    async def close(self) -> None:
        """Give up its connections."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a model's name leads. model: the name as the provider knows it."""

    provider: Provider
    model: str
