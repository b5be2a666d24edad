"""The public names of the package, and other files that must agree with them."""

import ast
import importlib
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from grpc._cython import cygrpc

import sessiond
from sessiond import errors
from sessiond._protocol import settings as _settings

ROOT = Path(__file__).parents[2]


def test_all_lists_the_public_names() -> None:
    shown = {
        name
        for name, value in vars(sessiond).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    } - {"TYPE_CHECKING", "import_module"}
    later = sessiond._MODULE_OF.keys()
    assert sorted({*shown, *later, "__version__", "errors"}) == sorted(sessiond.__all__)
    assert len(set(sessiond.__all__)) == len(sessiond.__all__)
    assert set(sessiond.__all__) <= set(dir(sessiond))


def test_names_are_imported_from_where_type_checkers_see_them() -> None:
    tree = ast.parse(Path(sessiond.__file__).read_text())
    for_checkers = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in for_checkers.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == sessiond._MODULE_OF
    for name, module in seen.items():
        assert getattr(sessiond, name) is getattr(importlib.import_module(str(module)), name)
    with pytest.raises(AttributeError, match="module 'sessiond' has no attribute 'Sesion'"):
        _ = sessiond.Sesion  # type: ignore[attr-defined]


def test_a_program_imports_the_client_that_it_uses() -> None:
    program = (
        "import sys; {}; "
        "print([name for name in ('sessiond._sync', 'sessiond._async') if name in sys.modules])"
    )
    for statement, imported in [
        ("import sessiond.v1.message_pb2", []),
        ("from sessiond import Client", ["sessiond._sync"]),
        ("from sessiond import AsyncClient, Message", ["sessiond._async"]),
        ("from sessiond import *", ["sessiond._sync", "sessiond._async"]),
    ]:
        done = subprocess.run(
            [sys.executable, "-c", program.format(statement)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == f"{imported}\n"


def test_errors_are_all_public_and_drawn() -> None:
    def below(cls: type) -> set[str]:
        return {cls.__name__}.union(*(below(sub) for sub in cls.__subclasses__()))

    classes = below(errors.SessiondError)
    assert {*classes, "FieldViolation"} == set(errors.__all__)
    tree = (errors.__doc__ or "").split()
    assert classes <= set(tree)
    for name in classes:
        assert getattr(errors, name).__doc__


def test_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sessiond.__version__ == project["version"]


def test_the_sync_client_is_generated_from_the_async_one() -> None:
    checked = subprocess.run(
        [sys.executable, ROOT / "scripts" / "generate-sync-client", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_both_clients_have_the_same_calls() -> None:
    def names(cls: type) -> set[str]:
        return {name for name in vars(cls) if not name.startswith("_")}

    assert names(sessiond.AsyncClient) == names(sessiond.Client)
    assert names(sessiond.AsyncSession) == names(sessiond.Session)
    for name in names(sessiond.Session):
        value = getattr(sessiond.Session, name)
        if callable(value):
            ours, theirs = (
                inspect.signature(value),
                inspect.signature(getattr(sessiond.AsyncSession, name)),
            )
            assert list(ours.parameters) == list(theirs.parameters)


def test_grpc_knows_every_channel_argument() -> None:
    library = Path(cygrpc.__file__).read_bytes()
    for name in _settings.CHANNEL_OPTIONS:
        assert name.encode() in library, name


def test_the_client_imports_its_own_dependencies_only() -> None:
    code = (
        "import sys; before = set(sys.modules); import sessiond;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(*new - set(sys.stdlib_module_names))"
    )
    env = {"PYTHONPATH": str(ROOT / "client")}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    ).stdout.split()
    # grpc imports its companions (health, reflection) if they are installed.
    others = {name for name in found if not name.startswith(("grpc", "_cython", "cython"))}
    assert others <= {"sessiond", "google", "orjson", "typing_extensions"}


def test_the_key_is_not_shown() -> None:
    made = _settings.settings("h:1", "secret-key", None, True, None)
    assert "secret-key" not in repr(made)


@pytest.mark.parametrize("cls", [sessiond.Client, sessiond.AsyncClient])
def test_making_a_client_calls_nothing(cls: type) -> None:
    assert repr(cls("nowhere.invalid:1")) == f"{cls.__name__}('nowhere.invalid:1')"
