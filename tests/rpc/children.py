"""Tasks and bookmarks as children of a session, for tests of their common behaviour."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import grpc

from sessiond.v1 import (
    bookmark_pb2,
    bookmark_service_pb2,
    task_pb2,
    task_service_pb2,
)

from ..support.wire import Wire, error_of

Query = Callable[..., list[tuple[object, ...]]]
Fields = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A kind of child of a session, and the fields that its tests use.

    Attributes:
        name: the word in the names of its RPCs.
        id_field: the name of the field that identifies it.
        message: the message class of the child.
        service: the generated module of its service.
        change: a change that an update makes.
        refused: fields of a creation that refer to a message beyond the last.
        other_creations: fields that make a creation differ from one without them.
        other_listings: fields that make a listing differ from one without them.
        listing: the parts of a page token's fingerprint besides the session.
        forged: positions that no page token contains.
        row: SQL of the columns to insert, and of their values in the n-th row.
    """

    name: str
    id_field: str
    message: type[Any]
    service: ModuleType
    change: Fields
    refused: Fields
    other_creations: list[Fields]
    other_listings: list[Fields]
    listing: list[object]
    forged: list[list[object]]
    row: tuple[str, str]


KINDS = [
    Kind(
        name="Task",
        id_field="task_id",
        message=task_pb2.Task,
        service=task_service_pb2,
        change={"status": task_pb2.TASK_STATUS_RUNNING},
        refused={"message_seqs": [6]},
        other_creations=[{"status": task_pb2.TASK_STATUS_FAILED}],
        other_listings=[{"status": task_pb2.TASK_STATUS_PENDING}],
        listing=[0],
        forged=[[2**40, "t"], [0, "t"], [1, "a\0"], ["1", "t"], [1], [1, "t", 2], [1, None]],
        row=("task_id, position, status", "'f' || n, n, 1"),
    ),
    Kind(
        name="Bookmark",
        id_field="name",
        message=bookmark_pb2.Bookmark,
        service=bookmark_service_pb2,
        change={"description": "d"},
        refused={"seq": 6},
        other_creations=[{"seq": 5}, {"replace": True}],
        other_listings=[],
        listing=[],
        forged=[[2**63, "b"], [-1, "b"], [1, "a\0"], ["1", "b"], [1], [1, "b", 2], [1, None]],
        row=("name, seq", "'f' || n, n %% 5"),
    ),
]


class Children:
    """Raw calls about one kind, with the same names for all kinds."""

    def __init__(self, wire: Wire, kind: Kind) -> None:
        self.kind = kind
        self.table = f"{kind.name.lower()}s"
        self._wire = wire

    async def call(
        self, verb: str, *, session: str = "one", metadata: Any = None, **fields: Any
    ) -> Any:
        rpc = f"{verb}{self.kind.name}{'s' if verb in ('List', 'Reorder') else ''}"
        request = getattr(self.kind.service, f"{rpc}Request")(session_id=session, **fields)
        return await self._wire.method(rpc)(request, metadata=metadata)

    async def create(
        self, child_id: str, *, session: str = "one", metadata: Any = None, **fields: Any
    ) -> Any:
        own = {name: fields.pop(name) for name in ("request_id", "replace") if name in fields}
        return await self.call(
            "Create", session=session, metadata=metadata, **own, **self._child(child_id, fields)
        )

    async def update(self, child_id: str, *, session: str = "one", request_id: str = "") -> Any:
        """Make the kind's change."""
        child = self._child(child_id, self.kind.change)
        return await self.call("Update", session=session, request_id=request_id, **child)

    async def get(self, child_id: str, *, session: str = "one", metadata: Any = None) -> Any:
        return await self.call(
            "Get", session=session, metadata=metadata, **{self.kind.id_field: child_id}
        )

    async def delete(self, child_id: str, **fields: Any) -> None:
        await self.call("Delete", **{self.kind.id_field: child_id}, **fields)

    async def page(self, **fields: Any) -> tuple[list[Any], str]:
        """Return a page and the token of the next one."""
        page = await self.call("List", **fields)
        return [*getattr(page, self.table)], page.next_page_token

    async def listed(self, **fields: Any) -> list[Any]:
        found, token = await self.page(**fields)
        while token:
            page, token = await self.page(**fields | {"page_token": token})
            found += page
        return found

    async def ids(self, **fields: Any) -> list[str]:
        return [getattr(child, self.kind.id_field) for child in await self.listed(**fields)]

    def fill(self, query: Query, count: int) -> None:
        """Insert rows f1, f2, ... into every session."""
        columns, values = self.kind.row
        query(
            f"INSERT INTO {self.table} (key, log, {columns}, created_at, updated_at) "
            f"SELECT key, log, {values}, now(), now() FROM sessions, generate_series(1, %s) n",
            [count],
        )

    def _child(self, child_id: str, fields: Fields) -> Fields:
        return {
            self.kind.name.lower(): self.kind.message(**{self.kind.id_field: child_id}, **fields)
        }


async def check_missing(children: Children, call: Any, child_id: str = "a") -> None:
    error = await error_of(call)
    assert error.code == grpc.StatusCode.NOT_FOUND
    assert error.reason == f"{children.kind.name.upper()}_NOT_FOUND"
    assert (error.metadata["session_id"], error.metadata[children.kind.id_field]) == (
        "one",
        child_id,
    )


async def check_page_token(call: Any) -> None:
    error = await error_of(call)
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")
    assert list(error.fields) == ["page_token"]
