"""Assets, and the objects that hold their content."""

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Table, Text, Uuid, func

from sessiond_server.db.schema.base import TIME, metadata

assets = Table(
    "assets",
    metadata,
    Column("project_id", Uuid, primary_key=True),
    Column("sha256", LargeBinary, primary_key=True),
    Column(
        "object_key",
        Text,
        nullable=False,
        comment="location of the content; every upload has a key of its own",
    ),
    Column("size", BigInteger, nullable=False),
    Column("media_type", Text, nullable=False, server_default=""),
    Column("created_at", TIME, nullable=False, server_default=func.now()),
    Column(
        "touched_at",
        TIME,
        nullable=False,
        server_default=func.now(),
        comment="time of the last upload",
    ),
    Index("assets_touched_at_idx", "touched_at"),
)

asset_refs = Table(
    "asset_refs",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column("log", Uuid, primary_key=True),
    Column(
        "seq",
        BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="seq of the referring message; deleted together with it",
    ),
    Column("sha256", LargeBinary, primary_key=True),
    Column("project_id", Uuid, nullable=False),
    Index("asset_refs_asset_idx", "project_id", "sha256"),
)

loose_objects = Table(
    "loose_objects",
    metadata,
    Column(
        "object_key",
        Text,
        primary_key=True,
        comment="an object that belongs to no asset; every object is either here or in assets",
    ),
    Column("due_at", TIME, nullable=False, comment="time from which the object may be removed"),
    Index("loose_objects_due_at_idx", "due_at"),
)
