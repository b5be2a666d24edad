"""The links of the built site, and the script that checks them."""

import subprocess
import sys
from pathlib import Path

import pytest

from .pages import ROOT

SITE = ROOT / "build/site"


def _faults(site: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/check-links"), str(site)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == bool(done.stdout)
    return done.stdout.splitlines()


def _site(directory: Path, **pages: str) -> Path:
    for name, text in pages.items():
        (directory / name).mkdir()
        (directory / name / "index.html").write_text(text, encoding="utf-8")
    return directory


def test_links_that_lead_somewhere_are_no_faults(tmp_path: Path) -> None:
    one = '<a href="../two/#there">x</a><a href="#here">y</a><h1 id="here">z</h1>'
    two = '<h1 id="there">x</h1><a href="https://example.com/nowhere">y</a>'
    assert _faults(_site(tmp_path, one=one, two=two)) == []


def test_missing_pages_and_anchors_are_faults(tmp_path: Path) -> None:
    one = '<a href="../three/">x</a><a href="../two/#nowhere">y</a><a href="#nothing">z</a>'
    assert _faults(_site(tmp_path, one=one, two="")) == [
        "one/index.html: ../three/: there is no such page",
        "one/index.html: ../two/#nowhere: the page has no such anchor",
        "one/index.html: #nothing: the page has no such anchor",
    ]


def test_what_is_loaded_from_elsewhere_is_a_fault(tmp_path: Path) -> None:
    one = '<script src="https://example.com/a.js"></script><link rel="icon" href="icon.png">'
    assert _faults(_site(tmp_path, one=one)) == [
        "one/index.html: loads https://example.com/a.js from elsewhere"
    ]


def test_a_site_without_pages_is_a_fault(tmp_path: Path) -> None:
    assert len(_faults(tmp_path)) == 1


def test_the_built_site_has_no_faults() -> None:
    if not (SITE / "index.html").exists():
        pytest.skip("the site is not built; `make docs` builds it, and checks it as this does")
    assert _faults(SITE) == []
