"""The vendored scripts equal the published ones, and the NOTICE names all of them."""

import hashlib
import re
from pathlib import Path

import sessiond_console

VENDOR = Path(sessiond_console.__file__).parent / "static" / "vendor"
ENTRY = re.compile(
    r"file: (?P<file>\S+)\npackage: npm (?P<package>\S+) (?P<version>\S+), .*\n"
    r"licence: (?P<licence>.+)\nsha256: (?P<sha256>[0-9a-f]{64})"
)


def test_vendored_files_have_the_hashes_of_the_notice() -> None:
    entries = {found["file"]: found for found in ENTRY.finditer((VENDOR / "NOTICE").read_text())}
    files = {path.name for path in VENDOR.iterdir()} - {"NOTICE"}
    assert files == entries.keys()
    for name, entry in entries.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == entry["sha256"]
        assert entry["version"] in name
        assert entry["licence"].startswith("0BSD")


def test_pages_load_each_vendored_file_and_nothing_from_elsewhere() -> None:
    base = (VENDOR.parents[1] / "templates" / "base.html").read_text()
    for path in VENDOR.glob("*.js"):
        assert f'src="/static/vendor/{path.name}"' in base
    for page in VENDOR.parents[1].joinpath("templates").glob("*.html"):
        text = page.read_text()
        assert not re.search(r'(src|href|action)="(https?:)?//', text), page.name
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text), page.name
        assert not re.search(r"<script(?! src=)", text), page.name
