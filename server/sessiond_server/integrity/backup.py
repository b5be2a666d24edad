"""Backups: a directory with a dump of the database, the content of all assets, and a manifest.

The dump and the list of assets are of the same moment. Servers may go on serving: an asset that is
uploaded meanwhile is not part of the backup. If an asset of the list is removed meanwhile, after
its grace period, the backup fails with an error about this.
"""

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sessiond import __version__
from sessiond_server.assets.store.objects import ObjectMissing, Objects
from sessiond_server.integrity.store.checks import StoredAsset
from sessiond_server.integrity.store.postgres_tools import find_tool, run_tool
from sessiond_server.integrity.store.snapshot import server_version, snapshot

FORMAT = 1
DUMP, ASSETS, MANIFEST = "database.dump", "assets", "backup.json"
COPIES_AT_ONCE = 4
PIECE_BYTES = 256 * 1024


class BackupError(Exception):
    """A backup cannot be made or restored."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of a backup.

    Attributes:
        version: version of sessiond that made it.
        revision: revision of the schema.
        created_at: the time, in ISO 8601.
        dump_bytes: size of the dump.
        dump_sha256: SHA-256 of the dump, in hex.
        assets: number of assets; None = the backup has no assets.
        asset_bytes: size of these assets together.
        format: version of the layout.
    """

    version: str
    revision: str
    created_at: str
    dump_bytes: int
    dump_sha256: str
    assets: int | None
    asset_bytes: int
    format: int = FORMAT


async def back_up(url: str, objects: Objects | None, directory: Path) -> Manifest:
    """Make a backup.

    Args:
        url: the database.
        objects: the store of the assets' content; None = leave it out.
        directory: the directory to create. It appears when the backup is complete.

    Raises:
        BackupError: if the directory exists, or an asset is missing.
        ToolError: if pg_dump is missing or fails.
        psycopg.Error: if the database cannot be read.
        ObjectStoreUnavailable: if the store of the assets does not answer.
        OSError: if the directory cannot be written.
    """
    if directory.exists():  # noqa: ASYNC240 - a command serves no other callers
        raise BackupError(f"{directory} exists already: name a directory that does not exist yet")
    partial = directory.with_name(f"{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700, parents=True)
    try:
        async with snapshot(url) as taken:
            tool = find_tool("pg_dump", taken.postgres_version)
            await run_tool(
                tool, url, "--format=custom", "--no-owner", "--no-privileges",
                f"--snapshot={taken.name}", f"--file={partial / DUMP}",
            )  # fmt: skip
            assets = taken.assets
        if objects:
            await _each(assets, lambda asset: _save(objects, asset, partial / ASSETS))
        manifest = Manifest(
            __version__,
            taken.revision,
            datetime.now(UTC).isoformat(timespec="seconds"),
            (partial / DUMP).stat().st_size,
            await asyncio.to_thread(_hash_of, partial / DUMP),
            len(assets) if objects else None,
            sum(asset.size for asset in assets) if objects else 0,
        )
        text = json.dumps({name: getattr(manifest, name) for name in manifest.__slots__}, indent=2)
        (partial / MANIFEST).write_text(text + "\n", encoding="utf-8")
        await asyncio.to_thread(_make_durable, partial)
        partial.rename(directory)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return manifest


def read_manifest(directory: Path) -> Manifest:
    """Read and check a backup's manifest, and compare the dump with it.

    Raises:
        BackupError: if the directory has no backup, one of a later layout, or a damaged dump.
    """
    try:
        fields: dict[str, Any] = json.loads((directory / MANIFEST).read_text("utf-8"))
        manifest = Manifest(**fields)
    except (OSError, ValueError, TypeError) as e:
        raise BackupError(f"{directory} is not a backup: {MANIFEST} cannot be read ({e})") from None
    if manifest.format != FORMAT:
        raise BackupError(
            f"{directory} was made by a later version of sessiond, {manifest.version}: restore it "
            "with that version"
        )
    try:
        found = _hash_of(directory / DUMP)
    except OSError as e:
        raise BackupError(f"{directory / DUMP} cannot be read: {e.strerror}") from None
    if found != manifest.dump_sha256:
        raise BackupError(
            f"{directory / DUMP} is damaged: its hash differs from the one in {MANIFEST}"
        )
    return manifest


async def restore_database(url: str, directory: Path) -> None:
    """Restore the dump into an empty database, whole or not at all.

    Raises:
        ToolError: if pg_restore is missing or fails.
        psycopg.Error: if the database cannot be reached.
    """
    tool = find_tool("pg_restore", await server_version(url))
    await run_tool(
        tool, url, "--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction",
        str(directory / DUMP),
    )  # fmt: skip


async def restore_assets(objects: Objects, directory: Path) -> int:
    """Restore the content of the assets, and return their number.

    Raises:
        ObjectStoreUnavailable: if the store does not answer.
    """
    root = directory / ASSETS
    files = [path for path in root.rglob("*") if path.is_file()]
    await _each(files, lambda path: objects.put(path.relative_to(root).as_posix(), _pieces(path)))
    return len(files)


async def _save(objects: Objects, asset: StoredAsset, root: Path) -> None:
    path = root / asset.object_key
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    try:
        with path.open("wb") as file:
            async with aclosing(objects.get(asset.object_key, 0, asset.size)) as pieces:
                async for piece in pieces:
                    digest.update(piece)
                    file.write(piece)
    except ObjectMissing:
        raise BackupError(
            f"the content of asset {asset.sha256.hex()} is missing: run `sessiond verify`; if it "
            "was removed during the backup, run the backup again"
        ) from None
    if digest.digest() != asset.sha256:
        raise BackupError(
            f"the content of asset {asset.sha256.hex()} is damaged: run `sessiond verify`"
        )


async def _pieces(path: Path) -> AsyncGenerator[bytes, None]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


async def _each(items: Any, work: Callable[[Any], Awaitable[None]]) -> None:
    """Do work for each item, for COPIES_AT_ONCE items at a time."""
    waiting = iter(items)

    async def do() -> None:
        for item in waiting:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(COPIES_AT_ONCE):
                group.create_task(do())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _make_durable(root: Path) -> None:
    for path in [*root.rglob("*"), root]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
