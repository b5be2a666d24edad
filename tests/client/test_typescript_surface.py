"""The TypeScript client has the calls and the options of the Python client."""

import inspect
import re
import typing
from pathlib import Path

import pytest

import sessiond
from sessiond._async import (
    _admin,
    _assets,
    _bookmarks,
    _client,
    _pool,
    _processing,
    _session,
    _sessions,
    _tasks,
)
from sessiond._requests import options

pytestmark = pytest.mark.unit

SOURCES = Path(sessiond.__file__).parents[1] / "typescript" / "src"

CLASSES = {
    _client.AsyncClient: ("client.ts",),
    _session.AsyncSession: ("session.ts",),
    _sessions.AsyncSessions: (
        "sessions.ts",
        "exports.ts",
        "regeneration.ts",
        "previews.ts",
        "turns.ts",
        "messages.ts",
    ),
    _tasks.AsyncTasks: ("tasks.ts",),
    _bookmarks.AsyncBookmarks: ("bookmarks.ts",),
    _assets.AsyncAssets: ("assets.ts",),
    _admin.AsyncAdmin: ("admin.ts",),
    _processing.AsyncProcessing: ("processing.ts", "leases.ts"),
    _pool.AsyncSessionPool: ("pool.ts",),
}

# Calls that TypeScript lacks, or has under another name.
CALLS = {
    "stubs": "call",  # instead of stubs, TypeScript has `client.call` and `rpc`
    "metadata": None,  # only calls of the stubs need it
    "stop": "close",
    "importTranscripts": None,  # only Python and the command import transcripts
}

# Options that TypeScript lacks, or has under another name.
OPTIONS = {
    "stub": "method",
    "blob": "message",
    "keywords": None,  # a parameter `**keywords`, which TypeScript cannot have
    "options": None,
    "settings": None,
    "conditions": None,
    "paths": None,  # this and the next three: of import_transcripts
    "program": None,
    "idPrefix": None,
    "keepBadLines": None,
    "wait": "waitMs",
    "leaseDuration": "leaseDurationMs",
    "retryDelay": "retryDelayMs",
    "idleWait": "idleWaitMs",
    "turnTimeout": "turnTimeoutMs",
    "timeout": "timeoutMs",
    "idleTtl": "idleTtlMs",
}


def camel(name: str) -> str:
    return re.sub("_(.)", lambda found: found[1].upper(), name)


def public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_it_has_every_call(cls: type) -> None:
    text = "".join((SOURCES / name).read_text() for name in CLASSES[cls])
    declared = set(re.findall(r"^  (?:async |get |readonly |static )*(\w+)\s*[(:<]", text, re.M))
    wanted = {CALLS.get(camel(name), camel(name)) for name in public(cls)} - {None}
    # The attributes of a session are fields of `session.info`.
    if cls is _session.AsyncSession:
        wanted -= {camel(name) for name in public(sessiond.SessionInfo)}
    assert not wanted - declared


def test_it_has_every_option() -> None:
    names: set[str] = set()
    for cls in CLASSES:
        for name in public(cls):
            if callable(call := getattr(cls, name)):
                names.update(inspect.signature(call).parameters)
    for value in vars(options).values():
        if typing.is_typeddict(value):
            names.update(value.__annotations__)
    text = "".join(path.read_text() for path in SOURCES.rglob("*.ts") if "gen" not in path.parts)
    declared = set(re.findall(r"\b(\w+)\??:", text))
    wanted = {OPTIONS.get(camel(name), camel(name)) for name in names - {"self"}} - {None}
    assert not wanted - declared


def test_the_errors_have_the_kinds_of_the_python_client() -> None:
    source = (SOURCES / "errors" / "reasons.ts").read_text()
    kinds = dict(re.findall(r"^export class (\w+) extends (\w+)", source, re.MULTILINE))
    assert len(kinds) > 40
    for name, kind in kinds.items():
        assert issubclass(getattr(sessiond, name), getattr(sessiond, kind)), name
