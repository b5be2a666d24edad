"""`scripts/adapters-test` on a machine where a framework cannot be installed."""

import subprocess
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/adapters-test"
NOT_THERE = "note: more\nERROR: No matching distribution found for strands-agents==1.62.0\nhint"
CONFLICT = "ERROR: ResolutionImpossible: for help visit the documentation"


@pytest.fixture
def script() -> ModuleType:
    spec = spec_from_loader("adapters_test", SourceFileLoader("adapters_test", str(SCRIPT)))
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _fails(stderr: str) -> Any:
    def environment(*_: object) -> NoReturn:
        raise subprocess.CalledProcessError(1, "pip", stderr=stderr)

    return environment


def test_quick_skips_a_framework_that_cannot_be_had_and_says_why(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "_environment", _fails(NOT_THERE))
    assert script.main(["--quick", "strands"]) == 0
    said = capsys.readouterr().out
    assert "strands: skipped" in said
    assert "No matching distribution found for strands-agents==1.62.0" in said


@pytest.mark.parametrize(
    ("arguments", "stderr"), [(["--quick", "strands"], CONFLICT), (["strands"], NOT_THERE)]
)
def test_requirements_that_exclude_each_other_are_never_skipped_nor_is_anything_without_quick(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, arguments: list[str], stderr: str
) -> None:
    monkeypatch.setattr(script, "_environment", _fails(stderr))
    with pytest.raises(subprocess.CalledProcessError):
        script.main(arguments)
