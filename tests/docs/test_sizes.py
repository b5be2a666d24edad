"""scripts/check-sizes names files and packages that are too large."""

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "check-sizes"


def test_a_file_and_a_package_that_are_too_large_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, client = tmp_path / "server/sessiond_server", tmp_path / "client/sessiond"
    typescript = tmp_path / "client/typescript/src"
    for path, lines in (
        (server / "a/large.py", 451),
        (server / "b.py", 450),
        (client / "c.py", 451),
        (typescript / "large.ts", 451),
        (typescript / "gen/generated.ts", 5000),
        (client / "v1/generated_pb2.py", 5000),
        (client / "_sync/generated.py", 5000),
        *((server / f"small{i}.py", 450) for i in range(6)),
        (server / "a/__init__.py", 400),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n" * lines)
    script = runpy.run_path(str(SCRIPT))
    main = script["main"]
    main.__globals__.update(
        ROOT=tmp_path,
        SERVER=server,
        SOURCES=((server, "*.py"), (client, "*.py"), (typescript, "*.ts")),
        GENERATED=(client / "v1", client / "_sync", typescript / "gen"),
    )
    assert main() == 1
    named = [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()]
    assert named == [
        "server/sessiond_server/a/large.py",
        "client/sessiond/c.py",
        "client/typescript/src/large.ts",
        "server/sessiond_server/a",
    ]
