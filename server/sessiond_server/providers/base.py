"""The interface between turns and models: requests, answers and faults.

Providers implement Provider; `routing` finds the one for a model's name.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from sessiond.v1.message_pb2 import Format, Message
from sessiond.v1.turn_pb2 import Usage
from sessiond_server.formats.report import Report
from sessiond_server.formats.wire import AssetInfo


class ModelFault(Exception):
    """A model cannot be called, or its answer failed.

    Args:
        reason: ErrorReason without its prefix: MODEL_NOT_CONFIGURED, MODEL_ACCESS_DENIED,
            MODEL_RATE_LIMITED, MODEL_REQUEST_REJECTED, MODEL_UNAVAILABLE, MODEL_TIMED_OUT,
            MODEL_ANSWER_INVALID or CONTEXT_TOO_LARGE.
        message: an explanation for people to read; never contains a key.
        metadata: the keys that error_reason.proto names, without session_id and turn_id.
        retry_after_s: seconds after which the provider accepts a retry. None = not given.
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


class RequestTooLarge(ModelFault):
    """The request is larger than the server sends.

    Attributes:
        message_count: number of the request's messages.
        repeated: the fault for any later request that contains the same assets. None = the assets
            alone are not too large.
    """

    def __init__(self, fault: ModelFault, message_count: int, repeated: ModelFault | None) -> None:
        super().__init__(fault.reason, fault.message, metadata=fault.metadata)
        self.message_count = message_count
        self.repeated = repeated


DescribeAssets: TypeAlias = Callable[[Sequence[str]], Awaitable[Mapping[str, AssetInfo]]]
"""Returns the properties of assets by their ids, without loading the content. Missing assets are
left out.

If no media type is stored, it is determined from the first bytes.
"""

LoadAsset: TypeAlias = Callable[[str], AsyncGenerator[bytes, None]]
"""Yields the content of an asset by its id."""


async def no_assets(asset_ids: Sequence[str]) -> Mapping[str, AssetInfo]:
    """Describe no assets, so that every reference is sent as a note."""
    return {}


async def no_content(asset_id: str) -> AsyncGenerator[bytes, None]:
    """Yield nothing. A request with no_assets() does not need the content of any asset."""
    return
    yield b""


OnReport: TypeAlias = Callable[[Report], None]


def no_report(report: Report) -> None:
    """Ignore a report."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call of a model.

    Attributes:
        model: the name that the provider uses.
        messages: the stored history, oldest first. Each message has a seq, a role, and either json
            with format, or parts.
        system_prompt: instructions that precede the history and are not part of it. "" = none.
        options: fields of the provider's request (temperature, max_tokens, tools, ...), in the
            caller's order. The fields that the provider sets (model, messages, stream) take
            precedence.
        describe_assets: describes the assets that messages refer to.
        load_asset: loads the content of one such asset.
        max_request_bytes: maximum size of the request, assets included. 0 = no limit.
        on_report: called before the request is sent, with a report of the content that the request
            lacks, or contains in another form.
    """

    model: str
    messages: Sequence[Message]
    system_prompt: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    describe_assets: DescribeAssets = no_assets
    load_asset: LoadAsset = no_content
    max_request_bytes: int = 0
    on_report: OnReport = no_report


@dataclass(frozen=True, slots=True)
class Preview:
    """A request that is not sent.

    Attributes:
        text: the body as JSON text, with notes in the places of assets' contents.
        size_bytes: the size of the body with the contents of its assets.
        report: content that the request lacks, or contains in another form.
    """

    text: str
    size_bytes: int
    report: Report


@dataclass(frozen=True, slots=True)
class Delta:
    """Text that the model added to its answer or its reasoning.

    Attributes:
        text: the added text.
        is_reasoning: whether the text is reasoning, and not a part of the answer.
    """

    text: str
    is_reasoning: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """The complete answer.

    Attributes:
        messages: the assistant's messages as JSON in the provider's format, complete with tool
            calls and signatures: they are stored and sent back unchanged. There is one message,
            except for APIs whose answers consist of items.
        model: the model's name in the provider's answer.
        stop_reason: in the provider's spelling. "" = not given.
        usage: None = not reported.
    """

    messages: Sequence[str]
    model: str
    stop_reason: str
    usage: Usage | None


class Provider(Protocol):
    """A source of model answers."""

    @property
    def name(self) -> str:
        """The provider's name in the server's settings."""

    @property
    def format(self) -> Format.ValueType:
        """The JSON format of answers. Prompts for the provider are stored in the same format."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | Answer, None]:
        """Call the model once. Closing the generator aborts the request.

        Yields:
            Deltas as they arrive, then exactly one Answer.

        Raises:
            ModelFault: if the call fails and cannot safely be retried, or the retries fail as well.
                Nothing is retried after a delta.
        """

    async def preview(self, request: ModelRequest) -> Preview:
        """Create the request of a call without making the call.

        Raises:
            ModelFault: MODEL_REQUEST_REJECTED; CONTEXT_TOO_LARGE.
        """

    async def close(self) -> None:
        """Close the connections."""


@dataclass(frozen=True, slots=True)
class Route:
    """The provider that serves a model.

    Attributes:
        provider: serves the model.
        model: the name that the provider uses.
    """

    provider: Provider
    model: str
