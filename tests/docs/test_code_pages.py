"""The pages of the reference that scripts/code_pages.py derives from the server's source."""

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sessiond_server.settings import Settings

from .pages import ROOT

SCRIPTS = ROOT / "scripts"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A function that returns a page, by the name of the page's function."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    script = runpy.run_path(str(SCRIPTS / "code_pages.py"))
    del sys.modules["tables"]
    return lambda name: str(script[name]())


@pytest.mark.parametrize("event", ["call", "slow_call", "call_refused", "call_failed"])
def test_the_events_of_calls_have_the_fields_that_all_of_them_share(
    page: Callable[[str], str], event: str
) -> None:
    [fields] = re.findall(rf"^\| `{event}` \| [^|]+ \| (.*?) \|", page("log_events"), re.MULTILINE)
    assert {"`method`", "`call_id`", "`session_id`", "`key_id`", "`peer`"} <= set(
        fields.split(", ")
    )


def test_every_event_of_the_source_is_listed(page: Callable[[str], str]) -> None:
    text = page("log_events")
    logged = {
        event
        for path in (ROOT / "server").rglob("*.py")
        for event in re.findall(
            r"\blog\.(?:debug|info|warning|error|exception)\(\s*\"(\w+)\"",
            path.read_text(encoding="utf-8"),
        )
    }
    assert len(logged) > 30
    assert logged == set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE))


def test_limits_name_their_units_and_settings(page: Callable[[str], str]) -> None:
    text = page("limits")
    assert "| tasks of a session | at most 1,000 |" in text
    assert "| duration of a lease | default 60 s, at least 1 s, at most 3,600 s |" in text
    anchors = re.findall(r"settings\.md#(\w+)", text)
    assert {"max_message_bytes", "max_running_turns"} <= set(anchors) <= set(Settings.model_fields)


def test_a_limit_without_a_comment_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bare_limits.py").write_text("MAX_THINGS = 3\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(SCRIPTS))
    script = runpy.run_path(str(SCRIPTS / "code_pages.py"))
    del sys.modules["tables"]
    with pytest.raises(SystemExit, match="MAX_THINGS has no comment"):
        list(script["_constants"]("bare_limits"))
    del sys.modules["bare_limits"]


@pytest.mark.parametrize("row", ["picture in the message, or as an asset", "PDF"])
def test_the_table_of_formats_has_files_that_anthropic_accepts(
    monkeypatch: pytest.MonkeyPatch, row: str
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    lines = str(runpy.run_path(str(SCRIPTS / "format_pages.py"))["page"]()).splitlines()
    [header] = [line for line in lines if line.startswith("| content |")]
    [cells] = [line for line in lines if line.startswith(f"| {row} |")]
    place = header.split(" | ").index("Anthropic")
    assert cells.split(" | ")[place] == "as it is"
