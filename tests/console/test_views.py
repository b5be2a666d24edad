"""Fork trees, branches side by side, plots, and the model's input."""

from datetime import UTC, datetime, timedelta

import pytest

from sessiond import AsyncClient, NewMessage
from sessiond_console.family import family_of
from sessiond_console.pages.context import window_of
from sessiond_console.plots import HEIGHT, Point, plots_of

from .conftest import Browser
from .test_transcript import seqs


async def say(api: AsyncClient, session_id: str, *texts: str) -> None:
    messages = [{"role": "user", "content": text} for text in texts]
    await api.sessions.store_messages(session_id, messages)


@pytest.fixture
async def tree(api: AsyncClient) -> None:
    """A root with two copies, of which the first has a copy of its own."""
    await api.create_session("root", title="<root>")
    await say(api, "root", "r1", "r2", "r3", "r4")
    await api.sessions.copy("root", "left", up_to_seq=2)
    await say(api, "left", "left 3", "left 4")
    await api.sessions.copy("left", "leaf", up_to_seq=3)
    await say(api, "leaf", "leaf 4")
    await api.sessions.copy("root", "right", up_to_seq=3)
    await say(api, "right", "right 4")


async def test_the_tree_has_all_copies_and_their_cuts(
    tree: None, api: AsyncClient, browser: Browser
) -> None:
    for session_id in ("root", "leaf"):
        family = await family_of(api, await api.sessions.get(session_id))
        found = [(node.session_id, node.depth, node.cut) for node in family.nodes]
        assert found == [("root", 0, 0), ("left", 1, 2), ("leaf", 2, 3), ("right", 1, 3)]
        assert not family.is_partial
    html = await browser.page("/sessions/leaf/tree")
    assert html.count("<circle") == 4
    assert html.count("<path") == 3
    assert "copied up to #3" in html


@pytest.mark.parametrize(
    ("first", "second", "cut"),
    [
        ("root", "left", 2),
        ("left", "leaf", 3),
        ("leaf", "root", 2),
        ("leaf", "right", 2),
        ("right", "root", 3),
        ("root", "stranger", 0),
    ],
)
async def test_two_branches_part_at_their_cut(
    tree: None, api: AsyncClient, browser: Browser, first: str, second: str, cut: int
) -> None:
    await api.create_session("stranger")
    await say(api, "stranger", "s1")
    family = await family_of(api, await api.sessions.get(first))
    assert family.cut_of(first, second) == cut
    html = await browser.page(f"/sessions/{first}/compare?with={second}")
    shown = seqs(html)
    assert min(shown) == cut + 1
    last = [(await api.sessions.get(session_id)).last_seq for session_id in (first, second)]
    assert len(shown) == sum(seq - cut for seq in last)


async def test_equal_messages_after_the_cut_are_marked(
    tree: None, api: AsyncClient, browser: Browser
) -> None:
    await say(api, "root", "same")
    await say(api, "right", "same")
    html = await browser.page("/sessions/root/compare?with=right")
    assert html.count("equal in both") == 1


async def test_a_tree_whose_root_is_deleted_is_shown(
    tree: None, api: AsyncClient, browser: Browser
) -> None:
    await api.delete_session("root")
    family = await family_of(api, await api.sessions.get("leaf"))
    assert [node.session_id for node in family.nodes] == ["left", "leaf"]
    await browser.page("/sessions/left/tree")


async def test_comparing_with_a_missing_session_is_refused(tree: None, browser: Browser) -> None:
    assert (await browser.get("/sessions/root/compare?with=none")).status_code == 404
    assert (await browser.get("/sessions/root/compare")).status_code == 400


async def test_the_plots_have_a_bar_for_each_message(
    tree: None, api: AsyncClient, browser: Browser
) -> None:
    html = await browser.page("/sessions/root/tokens")
    assert html.count("<title>#") == 8
    assert "<polyline" in html
    await api.create_session("empty")
    assert "has no messages" in await browser.page("/sessions/empty/tokens")


def test_plots_stay_in_their_frame() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    points = [
        Point(i + 1, "user", tokens, 1, now + timedelta(seconds=10**i))
        for i, tokens in enumerate([0, 1, 10_000, 5, 0])
    ]
    plots = plots_of(points)
    for bar in (*plots.bars, *plots.gaps):
        assert 0 <= bar.y <= HEIGHT
        assert 0 <= bar.height <= HEIGHT
        assert bar.x + bar.width <= 1000
    assert (plots.most_tokens, plots.tokens, plots.roles) == (10_000, 10_006, {"user": (5, 10_006)})
    assert plots_of(points[:1]).line


async def test_the_branch_of_the_newest_message_is_what_the_model_is_given(
    api: AsyncClient, browser: Browser
) -> None:
    session = await api.create_session(
        "s", config={"system_prompt": "Be <b>", "context": {"max_messages": 7}}
    )
    await say(api, "s", "one", "two", "three")
    answer = {"role": "assistant", "content": "other"}
    await session.store_messages([NewMessage(answer, parent_seq=1)])
    html = await browser.page("/sessions/s/context")
    assert html.count("on another branch: not given") == 2
    assert "2 messages with" in html
    assert "Be &lt;b&gt;" in html
    assert "max_messages 7" in html
    assert "No turn has run yet" in html


async def test_the_next_request_is_shown_with_what_someone_might_say(
    api: AsyncClient, browser: Browser
) -> None:
    session = await api.create_session("s", model="echo")
    await say(api, "s", "one")
    html = await browser.page("/sessions/s/context?prompt=what+%3Cif%3E&model=echo-2")
    assert "<strong>echo-2</strong> of echo 1 message with" in html
    assert "what &lt;if&gt;" in html
    assert (await session.refresh()).last_seq == 1
    assert "No turn has run yet" in html


async def test_a_turn_that_would_fail_is_announced(api: AsyncClient, browser: Browser) -> None:
    session = await api.create_session("s", model="echo")
    await session.store_messages([{"any": "thing"}], "other", format_name="mine")
    html = await browser.page("/sessions/s/context")
    assert "The next turn would fail" in html
    assert "which this server can store but not give to a model" in html


async def test_messages_before_the_window_are_not_given(api: AsyncClient, browser: Browser) -> None:
    await api.create_session("s", model="echo", config={"context": {"max_messages": 2}})
    await say(api, "s", *"abcd")
    html = await browser.page("/sessions/s/context")
    assert html.count("before the window: not given") == 3


async def test_the_fit_report_of_the_last_turn_stands_beside_the_messages(
    api: AsyncClient, browser: Browser
) -> None:
    session = await api.create_session("s", model="echo")
    await session.store_messages([{"role": "user", "content": "hi"}])
    sent = await session.send("go on")
    await session.wait_for_turn(sent.turn_id)
    html = await browser.page("/sessions/s/context")
    assert "tokens in" in html
    assert "Everything was sent as it is stored" in html


def test_only_limits_that_are_set_are_a_window() -> None:
    assert window_of({}) == {}
    assert window_of({"context": 7}) == {}
    assert window_of({"context": {"max_messages": 0, "max_tokens": 9}}) == {"max_tokens": 9}
