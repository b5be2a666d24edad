"""Changes by users: settings, copies, deletions, turns, bookmarks and tasks."""

import html as html_module
import json
import re

import psycopg
import pytest

from sessiond import AsyncClient, AsyncSession
from sessiond.errors import SessionNotFound
from sessiond_server.sessions import bulk_deletion

from .conftest import Browser

PAGES = ["", "/turns", "/tasks", "/bookmarks", "/settings"]


@pytest.fixture
async def session(api: AsyncClient) -> AsyncSession:
    session = await api.create_session("s", model="echo", title="old", metadata={"a": 1})
    await session.store_messages([{"role": "user", "content": f"m{i}"} for i in range(1, 4)])
    return session


def form_of(html: str, action: str, **changes: str) -> dict[str, str]:
    """Return the fields of a page's first form with this action, as a browser would send them."""
    form = re.search(
        rf'<form[^>]*action="{re.escape(action)}"[^>]*method="post".*?</form>', html, re.S
    )
    assert form, f"no form for {action}"
    fields: dict[str, str] = {}
    for tag in re.findall(r"<input[^>]*>", form[0]):
        name = re.search(r'name="([^"]*)"', tag)
        value = re.search(r'value="([^"]*)"', tag)
        if name and "checkbox" not in tag:
            fields[name[1]] = html_module.unescape(value[1]) if value else ""
    for name, value in re.findall(
        r'<textarea[^>]*name="(\w+)"[^>]*>\n?(.*?)</textarea>', form[0], re.S
    ):
        fields[name] = html_module.unescape(value)
    for name, body in re.findall(r'<select[^>]*name="(\w+)"[^>]*>(.*?)</select>', form[0], re.S):
        chosen = re.search(r"<option(?: value=\"(\w+)\")? selected>(\w*)", body)
        first = re.search(r"<option(?: value=\"(\w+)\")?>(\w*)", body)
        option = chosen or first
        fields[name] = (option[1] or option[2]) if option else ""
    return fields | changes


@pytest.mark.parametrize("page", PAGES)
async def test_a_read_only_console_shows_no_forms_that_change(
    session: AsyncSession, reader: Browser, browser: Browser, page: str
) -> None:
    shown = await reader.page(f"/sessions/s{page}")
    forms = set(re.findall(r'<form[^>]*action="([^"]*)" method="post"', shown))
    assert forms <= {"/theme", "/logout"} | (
        {"/sessions/s/settings"} if "settings" in page else set()
    )
    assert "Save</button>" not in shown
    assert 'method="post"' in (await browser.page(f"/sessions/s{page}")).replace("/theme", "")


async def test_settings_are_saved(
    session: AsyncSession, browser: Browser, api: AsyncClient
) -> None:
    page = await browser.page("/sessions/s/settings")
    form = form_of(
        page,
        "/sessions/s/settings",
        title="  new <b>",
        metadata='{"a": 2, "big": 9007199254740991}',
        idle_ttl="3600",
    )
    shown = await browser.post("/sessions/s/settings", form)
    assert "Saved." in shown.text
    info = await api.sessions.get("s")
    assert (info.title, info.metadata["a"]) == ("  new <b>", 2)
    assert info.idle_ttl is not None
    assert info.idle_ttl.total_seconds() == 3600
    assert info.model == "echo"
    form = form_of(await browser.page("/sessions/s/settings"), "/sessions/s/settings", idle_ttl="")
    await browser.post("/sessions/s/settings", form)
    assert (await api.sessions.get("s")).never_expires


async def test_a_conflict_shows_both_values_and_saves_nothing(
    session: AsyncSession, browser: Browser, api: AsyncClient
) -> None:
    page = await browser.page("/sessions/s/settings")
    await session.update(title="theirs")
    form = form_of(page, "/sessions/s/settings", title="mine")
    shown = await browser.post("/sessions/s/settings", form)
    assert shown.status_code == 409
    assert 'value="mine"' in shown.text
    assert "theirs" in shown.text
    assert (await api.sessions.get("s")).title == "theirs"
    again = form_of(shown.text, "/sessions/s/settings")
    await browser.post("/sessions/s/settings", again)
    assert (await api.sessions.get("s")).title == "mine"


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("metadata", "{", "is not JSON"),
        ("metadata", "[1]", "must be a JSON object"),
        ("config", "[" * 100_000, "config"),
        ("idle_ttl", "soon", "number of seconds"),
        ("idle_ttl", "1e400", "idle_ttl"),
        ("idle_ttl", "0.1", "idle_ttl"),
        ("title", "a\x07b", "title"),
    ],
)
async def test_malformed_settings_come_back_with_the_reason(
    session: AsyncSession, browser: Browser, field: str, value: str, says: str
) -> None:
    page = await browser.page("/sessions/s/settings")
    form = form_of(page, "/sessions/s/settings") | {"title": "typed", field: value}
    shown = await browser.post("/sessions/s/settings", form)
    assert shown.status_code == 400
    assert says in shown.text
    if field != "title":
        assert 'value="typed"' in shown.text


async def test_a_double_click_makes_one_copy(
    session: AsyncSession, browser: Browser, api: AsyncClient
) -> None:
    page = await browser.page("/sessions/s")
    form = form_of(page, "/sessions/s/copy", up_to_seq="2")
    first = await browser.post("/sessions/s/copy", form)
    second = await browser.post("/sessions/s/copy", form)
    assert first.url == second.url
    copies = await api.sessions.copies("s")
    assert [copy.seq for copy in copies] == [2]
    assert "This is the copy" in first.text


async def test_sessions_are_destroyed_resumed_and_deleted(
    session: AsyncSession, browser: Browser, api: AsyncClient
) -> None:
    page = await browser.page("/sessions/s/settings")
    shown = await browser.post("/sessions/s/destroy", form_of(page, "/sessions/s/destroy"))
    assert (await api.sessions.get("s")).status == "destroyed"
    shown = await browser.post("/sessions/s/resume", form_of(shown.text, "/sessions/s/resume"))
    assert (await api.sessions.get("s")).status == "active"
    form = form_of(shown.text, "/sessions/s/delete", confirm="S")
    assert (await browser.post("/sessions/s/delete", form)).status_code == 400
    await session.update(title="changed meanwhile")
    stale = await browser.post("/sessions/s/delete", form | {"confirm": "s"})
    assert stale.status_code == 409
    assert "ETAG_MISMATCH" in stale.text
    page = await browser.page("/sessions/s/settings")
    await browser.post("/sessions/s/delete", form_of(page, "/sessions/s/delete", confirm="s"))
    with pytest.raises(SessionNotFound):
        await api.sessions.get("s")


@pytest.mark.parametrize("act", ["delete", "destroy"])
async def test_picked_sessions_are_shown_before_they_are_changed(
    browser: Browser, api: AsyncClient, act: str
) -> None:
    for name in ("a", "b<i>", "c"):
        await api.create_session(name)
    listing = await browser.page("/sessions")
    assert listing.count('name="pick"') == 3
    picked = {"act": act, "pick": ["a", "b<i>"]}
    asked = await browser.post("/picked-sessions", picked)
    assert "b&lt;i&gt;" in asked.text
    assert "2 sessions" in asked.text
    assert len(await api.list_sessions(status="active")) == 3
    done = await browser.post("/picked-sessions", picked | {"confirm": "1", "request_id": "r"})
    assert "The picked sessions are" in done.text
    assert [info.session_id for info in await api.list_sessions(status="active")] == ["c"]
    if act == "destroy":
        again = {"act": "resume", "pick": ["a"], "confirm": "1", "request_id": "r2"}
        await browser.post("/picked-sessions", again)
        assert (await api.sessions.get("a")).status == "active"


async def test_picked_sessions_that_cannot_be_changed_are_named(
    browser: Browser, api: AsyncClient
) -> None:
    await api.create_session("a")
    picked = {"act": "destroy", "pick": ["a", "gone"], "confirm": "1", "request_id": "r"}
    refused = await browser.post("/picked-sessions", picked)
    assert refused.status_code == 409
    assert "1 of 2 sessions are done" in refused.text
    assert "it does not exist any more" in refused.text
    for form, problem in (
        ({"act": "destroy"}, "pick sessions in the list first"),
        ({"act": "eat", "pick": "a"}, "choose what to do"),
        ({"act": "delete", "pick": [str(i) for i in range(501)]}, "at most 500"),
    ):
        answer = await browser.post("/picked-sessions", form)
        assert (answer.status_code, problem in answer.text) == (400, True)


async def test_sessions_of_a_filter_are_counted_before_they_are_deleted(
    browser: Browser, api: AsyncClient
) -> None:
    for i in range(3):
        await api.create_session(f"a-{i}", user="ada")
    await api.create_session("b", user="bob")
    page = await browser.page("/delete-sessions?user=ada")
    assert "<strong>3 sessions</strong>" in page
    form = form_of(page, "/delete-sessions", confirm="3")
    await api.create_session("a-new", user="ada")
    refused = await browser.post("/delete-sessions", form)
    assert refused.status_code == 409
    assert "now selects 4 sessions" in refused.text
    await browser.post("/delete-sessions", form_of(refused.text, "/delete-sessions", confirm="4"))
    assert [info.session_id for info in await api.list_sessions()] == ["b"]
    assert "every session of the project" in await browser.page("/delete-sessions")


async def test_locked_sessions_of_a_filter_are_named(
    browser: Browser, api: AsyncClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_deletion, "MAX_WAIT_S", 0.1)
    for session_id in ("a", "b"):
        await api.create_session(session_id, user="ada")
    form = form_of(await browser.page("/delete-sessions?user=ada"), "/delete-sessions", confirm="2")
    with psycopg.connect(database_url) as blocker:
        blocker.execute("SELECT FROM sessions WHERE session_id = 'b' FOR UPDATE")
        kept = await browser.post("/delete-sessions", form)
    assert kept.status_code == 409
    assert "Deleted: 1. Kept, because others have locked them: b." in kept.text
    await browser.post("/delete-sessions", form_of(kept.text, "/delete-sessions", confirm="1"))
    assert not [info async for info in api.list_sessions()]


async def test_prompts_are_sent_once_and_answered(
    session: AsyncSession, browser: Browser, api: AsyncClient
) -> None:
    form = form_of(await browser.page("/sessions/s"), "/sessions/s/send")
    form |= {"prompt": "hello\r\nthere", "options": '{"echo_text": "hi"}'}
    for _ in range(2):
        assert (await browser.post("/sessions/s/send", form)).status_code == 200
    [turn] = await session.turns()
    await session.wait_for_turn(turn.turn_id)
    messages = await session.get_messages(after_seq=3)
    assert [message.content for message in messages] == ["hello\nthere", "hi"]
    page = await browser.page("/sessions/s/turns")
    assert "completed" in page
    detail = await browser.page(f"/sessions/s/turns/{turn.turn_id}")
    assert "hello\nthere" in detail
    assert "tokens in" in detail


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"prompt": " "}, "is empty"),
        ({"prompt": "x", "options": "{"}, "is not JSON"),
        ({"prompt": "x", "mode": "shout"}, "mode"),
        ({"prompt": "x", "model": "unheard-of"}, "MODEL_NOT_CONFIGURED"),
    ],
)
async def test_prompts_that_cannot_be_sent_say_why(
    session: AsyncSession, browser: Browser, fields: dict[str, str], says: str
) -> None:
    shown = await browser.post("/sessions/s/send", fields)
    assert shown.status_code >= 400
    assert says in shown.text


async def test_a_turn_that_failed_says_why_and_can_be_asked_again(
    session: AsyncSession, browser: Browser, api: AsyncClient
) -> None:
    sent = await session.send("x", options={"echo_fault": "MODEL_RATE_LIMITED"})
    with pytest.raises(Exception, match="MODEL_RATE_LIMITED"):
        await session.wait_for_turn(sent.turn_id)
    assert "MODEL_RATE_LIMITED" in await browser.page("/sessions/s/turns?state=failed")
    page = await browser.page(f"/sessions/s/turns/{sent.turn_id}")
    assert "MODEL_RATE_LIMITED" in page
    form = form_of(page, "/sessions/s/send")
    assert (await browser.post("/sessions/s/send", form)).status_code == 200
    latest = (await session.turns())[0]
    assert (await session.wait_for_turn(latest.turn_id)).role == "assistant"
    # The transcript marks the place of the missing answer.
    assert 'class="badge failed">failed</span> <strong' in await browser.page("/sessions/s")


async def test_running_and_waiting_turns_are_shown_and_aborted(
    session: AsyncSession, browser: Browser
) -> None:
    slow = {"echo_delay_ms": 60_000}
    running = await session.send("one", options=slow)
    waiting = await session.send("two", options=slow)
    page = await browser.page("/sessions/s")
    assert "A turn is running" in page
    assert "A prompt waits for its turn" in page
    turn_page = f"/sessions/s/turns/{waiting.turn_id}"
    form = form_of(await browser.page(turn_page), "/sessions/s/abort")
    assert "aborted" in (await browser.post("/sessions/s/abort", form)).text
    form = form_of(await browser.page("/sessions/s/turns"), "/sessions/s/abort")
    await browser.post("/sessions/s/abort", form)
    states = {turn.turn_id: turn.state for turn in await session.turns()}
    assert states == {running.turn_id: "aborted", waiting.turn_id: "aborted"}
    # The page of a session without a running turn offers no abort.
    assert "/sessions/s/abort" not in await browser.page("/sessions/s/turns")
    shown = await browser.post("/sessions/s/abort", form | {"request_id": "another"})
    assert "No turn was running" in shown.text


async def test_bookmarks_are_set_changed_and_deleted(
    session: AsyncSession, browser: Browser
) -> None:
    path = "/sessions/s/bookmarks"
    form = form_of(await browser.page("/sessions/s"), path, name="<b>", seq="2")
    shown = await browser.post(path, form)
    assert "&lt;b&gt;" in shown.text
    form = form_of(shown.text, path, new_name="b2", seq="3", description="why")
    form["action"] = "update"
    shown = await browser.post(path, form)
    [mark] = await session.bookmarks.list()
    assert (mark.name, mark.seq, mark.description) == ("b2", 3, "why")
    await browser.post(path, form_of(shown.text, path) | {"action": "delete"})
    assert await session.bookmarks.list() == []
    for fields, says in (
        ({"name": "x", "seq": "99", "action": "create"}, "MESSAGE_NOT_FOUND"),
        ({"name": "x", "action": "eat"}, "action"),
        ({"name": "none", "action": "delete"}, "BOOKMARK_NOT_FOUND"),
    ):
        assert says in (await browser.post(path, fields)).text


async def test_tasks_are_added_changed_moved_and_deleted(
    session: AsyncSession, browser: Browser
) -> None:
    path = "/sessions/s/tasks"
    for name in ("one", "two", "three"):
        await browser.post(
            path,
            {"action": "create", "task_id": name, "data": '{"n": 1}', "message_seqs": "1, 2"},
        )
    shown = await browser.post(path, {"action": "up", "task_id": "three"})
    assert [task.task_id for task in await session.tasks.list()] == ["one", "three", "two"]
    await browser.post(path, {"action": "down", "task_id": "one"})
    assert [task.task_id for task in await session.tasks.list()] == ["three", "one", "two"]
    await browser.post(path, {"action": "down", "task_id": "two"})
    assert 'Task <a href="/sessions/s/tasks">one</a>' in await browser.page("/sessions/s")
    page = await browser.page(path)
    form = form_of(page, path, status="failed", message_seqs="3", data="")
    form["action"] = "update"
    shown = await browser.post(path, form)
    assert shown.status_code == 200
    [three] = await session.tasks.list(status="failed")
    assert (three.task_id, three.message_seqs, three.data) == ("three", [3], {})
    stale = await browser.post(path, form | {"request_id": "another"})
    assert "ETAG_MISMATCH" in stale.text
    await browser.post(path, {"action": "delete", "task_id": "one"})
    assert [task.task_id for task in await session.tasks.list()] == ["three", "two"]
    for fields, says in (
        ({"action": "up", "task_id": "none"}, "TASK_NOT_FOUND"),
        ({"action": "create", "message_seqs": "x"}, "message_seqs"),
        ({"action": "create", "status": "odd"}, "status"),
        ({"action": "?"}, "action"),
    ):
        assert says in (await browser.post(path, fields)).text


async def test_exports_are_json_lines(session: AsyncSession, browser: Browser) -> None:
    response = await browser.get("/sessions/s/export")
    assert response.headers["content-disposition"] == 'attachment; filename="s.jsonl"'
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert len(lines) >= 4
    assert (await browser.get("/sessions/none/export")).status_code == 404


async def test_partial_answers_are_marked(session: AsyncSession, browser: Browser) -> None:
    options = {"echo_text": "a b c", "echo_fault": "MODEL_UNAVAILABLE", "echo_fault_after": 2}
    sent = await session.send("x", options=options)
    with pytest.raises(Exception, match="MODEL_UNAVAILABLE"):
        await session.wait_for_turn(sent.turn_id)
    assert "partial answer" in await browser.page("/sessions/s")
    assert "partial answer" in await browser.page(f"/sessions/s/turns/{sent.turn_id}")


async def test_a_session_is_rewound_and_says_so(
    session: AsyncSession, browser: Browser, api: AsyncClient
) -> None:
    page = await browser.page("/sessions/s/settings")
    form = form_of(page, "/sessions/s/rewind", to_seq="1")
    assert (await browser.post("/sessions/s/rewind", form)).status_code == 400
    await session.store_messages([{"role": "user", "content": "meanwhile"}])
    refused = await browser.post("/sessions/s/rewind", form | {"confirm": "s"})
    assert "SEQUENCE_CONFLICT" in refused.text
    page = await browser.page("/sessions/s/settings")
    form = form_of(page, "/sessions/s/rewind", to_seq="1", confirm="s")
    for _ in range(2):
        shown = await browser.post("/sessions/s/rewind", form)
        assert "rewound 1×" in shown.text
    assert (await api.sessions.get("s")).last_seq == 1


async def test_the_state_is_changed_unless_somebody_else_was_faster(
    session: AsyncSession, browser: Browser, api: AsyncClient
) -> None:
    page = await browser.page("/sessions/s/settings")
    form = form_of(page, "/sessions/s/state", state='{"step": 2}')
    assert "Saved." in (await browser.post("/sessions/s/state", form)).text
    assert (await api.sessions.get("s")).state == {"step": 2}
    page = await browser.page("/sessions/s/settings")
    newer = form_of(page, "/sessions/s/state", state='{"other": [1]}')
    await browser.post("/sessions/s/state", newer)
    assert (await api.sessions.get("s")).state == {"other": [1]}
    stale = await browser.post("/sessions/s/state", form | {"request_id": "another"})
    assert "ETAG_MISMATCH" in stale.text
