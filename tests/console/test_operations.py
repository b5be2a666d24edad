"""Queues, projects and keys, the server page, and code to copy."""

import ast
import shlex
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from sessiond import AsyncClient, ProjectLimits
from sessiond_console.snippets import of_list, of_session
from sessiond_server.server import Running

from .conftest import Browser
from .corpus import HOSTILE
from .test_security import (  # noqa: F401 - fixtures
    admin,
    keyed,
    sign_in,
    stranger,
)


async def test_queues_show_counts_and_failures_which_can_be_requeued(
    api: AsyncClient, browser: Browser
) -> None:
    assert "There are no queues" in await browser.page("/queues")
    session = await api.create_session("s")
    await session.store_messages([{"role": "user", "content": str(i)} for i in range(3)])
    [lease] = await api.processing.lease("index", max_messages=2)
    await api.processing.acknowledge(lease, failures={1: "<b>broken</b>", 2: "too"})
    assert '<td class="num failed-text">2</td>' in await browser.page("/queues")
    html = await browser.page("/queues/index?session=s")
    assert "&lt;b&gt;broken&lt;/b&gt;" in html
    await browser.post("/queues/index/requeue", {"session": "s", "seq": "1"})
    assert (await api.processing.counts("index")).failed == 1
    await browser.post("/queues/index/requeue", {"session": "s"})
    assert (await api.processing.counts("index")).failed == 0
    assert (await browser.get("/queues/none")).status_code == 404
    assert "session" in (await browser.post("/queues/index/requeue", {})).text


async def test_projects_and_keys_are_managed_without_a_key_on_an_open_server(
    browser: Browser, api: AsyncClient
) -> None:
    await browser.post("/projects", {"name": "shop"})
    assert "shop" in await browser.page("/projects")
    made = await browser.post("/projects/shop/keys", {"label": "<b>", "is_admin": "1"})
    assert "sk-sessiond-" in made.text
    assert "&lt;b&gt;" in made.text
    # The page shows the secret only once.
    assert "sk-sessiond-" not in await browser.page("/projects/shop")
    [key] = await api.admin.list_api_keys("shop")
    assert key.is_admin
    await browser.post("/projects/shop/revoke", {"key_id": key.key_id})
    [key] = await api.admin.list_api_keys("shop")
    assert key.revoked_at
    assert (await browser.post("/projects", {"name": "Not A Name"})).status_code == 400
    assert (await browser.post("/projects", {"name": "shop"})).status_code == 409
    assert (await browser.get("/projects/none")).status_code == 404


async def test_a_project_shows_what_it_uses_beside_its_limits(
    browser: Browser, api: AsyncClient
) -> None:
    await api.admin.create_project("shop")
    await api.admin.set_project_limits("shop", ProjectLimits(max_sessions=123))
    page = await browser.page("/projects/shop")
    sessions = page[page.index("Sessions</th>") :]
    assert sessions.startswith("Sessions</th><td>0</td><td>123</td>")
    assert "Running and queued turns</th><td>0</td><td>none</td>" in page


async def test_projects_need_an_admin_key(
    stranger: Browser,  # noqa: F811
    admin: AsyncClient,  # noqa: F811
) -> None:
    key = str((await admin.admin.create_api_key("default")).secret)
    await sign_in(stranger, key)
    response = await stranger.get("/projects")
    assert response.status_code == 403
    assert "ADMIN_KEY_REQUIRED" in response.text
    await sign_in(
        stranger, str((await admin.admin.create_api_key("default", is_admin=True)).secret)
    )
    assert "default" in await stranger.page("/projects")


async def test_the_server_page_says_what_answers(
    browser: Browser, api: AsyncClient, server: Running
) -> None:
    await api.create_session("s")
    html = await browser.page("/server?count=1")
    assert f"127.0.0.1:{server.port}" in html
    assert "answers" in html
    assert "sessions of the project</dt><dd>1</dd>" in html


async def test_the_server_page_says_that_nothing_answers() -> None:
    from .conftest import open_console

    async for lost in open_console("127.0.0.1:1"):
        response = await lost.get("/server")
        assert response.status_code == 503
        assert "UNAVAILABLE" in response.text


@pytest.mark.parametrize("text", HOSTILE[:20])
def test_code_to_copy_quotes_what_it_contains(text: str) -> None:
    conditions = {
        "user": text,
        "metadata_contains": {text: text},
        "created_from": datetime(2026, 1, 1, tzinfo=UTC),
    }
    for snippets in (of_list("h:1", conditions, "id_asc"), of_session("h:1", text)):
        codes = dict(snippets)
        strings = [
            node.value
            for node in ast.walk(ast.parse(codes["Python"]))
            if isinstance(node, ast.Constant)
        ]
        assert text in strings
        words = shlex.split(codes["grpcurl"].replace("\\\n", " "))
        assert words[0] == "grpcurl"
        assert len(words) == 6


def test_shell_code_runs_nothing_of_an_id() -> None:
    code = dict(of_session("h:1", "'; echo evil; '$(echo evil)`echo evil`"))["sessiond"]
    shown = subprocess.run(
        ["/bin/sh", "-c", f"sessiond() {{ {sys.executable} -c 'print(1)'; }}; {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "1\n"
