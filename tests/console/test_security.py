"""The console refuses other hosts, other sites, other projects, revoked keys, and attacks."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from sessiond import AsyncClient
from sessiond_console.app import create_app
from sessiond_console.following import Followers, tail
from sessiond_console.logins import LIFETIME_S, Logins
from sessiond_console.options import Options
from sessiond_console.pages.login import safe_target
from sessiond_console.security import CSP, MAX_BODY_BYTES
from sessiond_server.server import Running, serving
from sessiond_server.settings import Settings

from .conftest import ORIGIN, Browser, open_console
from .test_live import Reader

SAME = {"Sec-Fetch-Site": "same-origin"}


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "evil.example:8321", ""),
        *("localhost@evil.example", "[::1].evil.example", "0.0.0.0:8321", "10.0.0.1"),
    ],
)
async def test_other_host_names_are_refused(browser: Browser, host: str) -> None:
    response = await browser.get("/sessions", Host=host)
    assert response.status_code == 400
    assert "--allow-host" in response.text


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8321", "127.0.0.1:8321", "[::1]:8321", "LOCALHOST"]
)
async def test_names_of_the_loopback_are_served(browser: Browser, host: str) -> None:
    assert (await browser.get("/sessions", Host=host)).status_code == 200


async def test_health_is_answered_whatever_the_host(browser: Browser) -> None:
    response = await browser.get("/healthz", Host="10.0.0.1:8321")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": ORIGIN},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Referer": f"{ORIGIN}/sessions"},
    ],
)
async def test_forms_of_other_sites_are_refused(browser: Browser, headers: dict[str, str]) -> None:
    response = await browser.http.post("/theme", data={"theme": "dark"}, headers=headers)
    assert response.status_code == 403
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("headers", [SAME, {"Origin": ORIGIN}])
async def test_forms_of_the_console_are_accepted(browser: Browser, headers: dict[str, str]) -> None:
    response = await browser.http.post("/theme", data={"theme": "dark"}, headers=headers)
    assert response.status_code == 303
    assert 'data-theme="dark"' in await browser.page("/sessions")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_other_methods_need_the_origin_too(browser: Browser, method: str) -> None:
    assert (await browser.http.request(method, "/sessions")).status_code == 403


async def test_bodies_are_limited(browser: Browser) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"theme=dark"

    large = await browser.http.post(
        "/theme", content=b"x", headers=SAME | {"content-length": str(MAX_BODY_BYTES + 1)}
    )
    assert large.status_code == 413
    chunked = await browser.http.post("/theme", content=pieces(), headers=SAME)
    assert chunked.status_code == 411


async def test_all_responses_carry_the_headers(browser: Browser) -> None:
    for path in ("/sessions", "/login", "/static/console.css", "/nowhere", "/healthz"):
        headers = (await browser.get(path)).headers
        assert headers["content-security-policy"] == CSP
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
    assert (await browser.get("/sessions")).headers["cache-control"] == "no-store"
    assert "unsafe" not in CSP
    assert "http" not in CSP


@pytest.mark.parametrize(
    "path",
    [
        *("/assets/..%2f..%2fetc%2fpasswd", "/assets/%2e%2e/logout", "/assets/" + "A" * 64),
        *("/assets/" + "a" * 63, "/assets/" + "a" * 65, "/assets/a%00", "/static/../app.py"),
        *("/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/vendor/", "/static//etc/passwd"),
    ],
)
async def test_path_tricks_find_nothing(browser: Browser, path: str) -> None:
    assert (await browser.get(path)).status_code == 404


async def test_an_asset_that_is_missing_is_not_found(browser: Browser) -> None:
    response = await browser.get(f"/assets/{'a' * 64}")
    assert response.status_code == 404
    assert "ASSET_NOT_FOUND" in response.text


async def test_assets_are_pictures_or_downloads(browser: Browser, api: AsyncClient) -> None:
    png = await api.assets.upload(b"\x89PNG\r\n\x1a\nrest", media_type="text/html")
    svg = await api.assets.upload(b"<svg onload=alert(1)>", media_type="image/svg+xml")
    html = await api.assets.upload(b"<script>alert(1)</script>", media_type="image/png")
    webp = await api.assets.upload(b"RIFF\0\0\0\0WEBPVP8 ", media_type="")
    wave = await api.assets.upload(b"RIFF\0\0\0\0WAVEfmt ", media_type="image/webp")
    shown = {}
    for name, asset in (("png", png), ("svg", svg), ("html", html), ("webp", webp), ("wav", wave)):
        response = await browser.get(f"/assets/{asset.asset_id}")
        assert response.headers["content-security-policy"] == "sandbox; default-src 'none'"
        assert response.headers["x-content-type-options"] == "nosniff"
        is_download = response.headers.get("content-disposition", "").startswith("attachment")
        shown[name] = (response.headers["content-type"], is_download)
    assert shown == {
        "png": ("image/png", False),
        "svg": ("application/octet-stream", True),
        "html": ("application/octet-stream", True),
        "webp": ("image/webp", False),
        "wav": ("application/octet-stream", True),
    }


@pytest.mark.parametrize(
    "target",
    [
        *("//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", ""),
        *("/a\nSet-Cookie: x=1", "/login", "/logout", "evil", "/a\\b"),
    ],
)
def test_a_login_leads_to_this_console_only(target: str) -> None:
    assert safe_target(target) == "/sessions"


def test_a_login_leads_back_to_the_page_that_asked_for_it() -> None:
    assert safe_target("/sessions/a%2Fb?at=7") == "/sessions/a%2Fb?at=7"


async def sign_in(browser: Browser, key: str) -> httpx2.Response:
    return await browser.post("/login", {"api_key": key, "next": "/sessions"}, follow=False)


@pytest.fixture
async def keyed(keyed_settings: Settings, database_url: str) -> AsyncIterator[Running]:
    async with serving(keyed_settings, database_url) as running:
        yield running


@pytest.fixture
async def admin(keyed: Running, database_url: str) -> AsyncIterator[AsyncClient]:
    """A client with an admin key, made as `sessiond keys create` makes it."""
    from sessiond_server.projects.service import Keys
    from sessiond_server.projects.store import KeyStore

    projects = Keys(KeyStore(keyed.database))
    made = await projects.create_key("default", label="", is_admin=True)
    async with AsyncClient(f"127.0.0.1:{keyed.port}", api_key=made.secret) as client:
        yield client


@pytest.fixture
async def stranger(keyed: Running) -> AsyncIterator[Browser]:
    """A browser of a console in front of the server that asks for keys; it is not signed in."""
    async for browser in open_console(f"127.0.0.1:{keyed.port}"):
        yield browser


async def test_pages_lead_to_the_login_and_back(stranger: Browser, admin: AsyncClient) -> None:
    await admin.create_session("mine")
    response = await stranger.get("/sessions/mine?at=1")
    assert response.status_code == 303
    assert response.headers["location"] == "/login?next=%2Fsessions%2Fmine%3Fat%3D1"
    assert 'value="/sessions/mine?at=1"' in await stranger.page(response.headers["location"])


async def test_a_wrong_key_is_refused(stranger: Browser, admin: AsyncClient) -> None:
    for key, status in (("sk-sessiond-0-wrong", 401), ("é", 400), (" ", 400)):
        response = await sign_in(stranger, key)
        assert response.status_code == status
        assert stranger.http.cookies.get("sessiond") is None


async def test_the_key_is_in_no_page_cookie_or_address(
    stranger: Browser, admin: AsyncClient
) -> None:
    key = (await admin.admin.create_api_key("default")).secret
    assert key
    response = await sign_in(stranger, key)
    assert response.status_code == 303
    cookie = response.headers["set-cookie"]
    for attribute in ("HttpOnly", "SameSite=strict", "Path=/", f"Max-Age={LIFETIME_S}"):
        assert attribute in cookie
    secret = key[-30:]
    pages = [await stranger.page(path) for path in ("/sessions", "/login")]
    for text in (*pages, str(response.headers), str(stranger.http.cookies)):
        assert secret not in text


async def test_each_login_has_a_new_id_and_ends_the_one_before(
    stranger: Browser, admin: AsyncClient
) -> None:
    key = str((await admin.admin.create_api_key("default")).secret)
    ids = set()
    for _ in range(3):
        await sign_in(stranger, key)
        ids.add(stranger.http.cookies["sessiond"])
    assert len(ids) == 3
    assert (await stranger.get("/sessions")).status_code == 200
    old = (ids - {stranger.http.cookies["sessiond"]}).pop()
    stranger.http.cookies.clear()
    assert (await stranger.get("/sessions", Cookie=f"sessiond={old}")).status_code == 303


async def test_a_revoked_key_ends_the_login(stranger: Browser, admin: AsyncClient) -> None:
    made = await admin.admin.create_api_key("default")
    await sign_in(stranger, str(made.secret))
    assert (await stranger.get("/sessions")).status_code == 200
    await admin.admin.revoke_api_key(made.key_id)
    response = await stranger.get("/sessions")
    assert response.status_code == 303
    assert "refused=1" in response.headers["location"]
    assert "wrong, or revoked" in await stranger.page(response.headers["location"])
    # The console has forgotten the key.
    assert "refused" not in (await stranger.get("/sessions")).headers["location"]


@pytest.mark.parametrize("path", ["/live", "/sessions/s/live?after=0"])
async def test_an_event_source_of_a_revoked_key_is_told_to_stop(
    stranger: Browser, admin: AsyncClient, path: str
) -> None:
    await admin.create_session("s")
    made = await admin.admin.create_api_key("default")
    await sign_in(stranger, str(made.secret))
    await admin.admin.revoke_api_key(made.key_id)
    response = await stranger.get(path, Accept="text/event-stream")
    assert (response.status_code, response.text) == (200, "event: denied\ndata: {}\n\n")
    assert response.headers["content-type"].startswith("text/event-stream")


async def test_a_key_that_is_revoked_ends_an_open_tail(keyed: Running, admin: AsyncClient) -> None:
    await admin.create_session("s")
    made = await admin.admin.create_api_key("default")
    followers = Followers()
    async with AsyncClient(f"127.0.0.1:{keyed.port}", api_key=made.secret) as api:
        reader = Reader(tail(followers, api, "s", 0, lambda message: message.content))
        await anext(reader.stream)
        # Once a message is delivered, the tab follows live.
        await admin.sessions.store_message("s", {"role": "user", "content": "hi"})
        await reader.until("message")
        await admin.sessions.store_message("s", {"role": "user", "content": "there"})
        await reader.until("message", seq=2)
        await admin.admin.revoke_api_key(made.key_id)
        assert await reader.until("denied") == {}
        followers.close()


async def test_signing_out_ends_the_login(stranger: Browser, admin: AsyncClient) -> None:
    key = str((await admin.admin.create_api_key("default")).secret)
    await sign_in(stranger, key)
    cookie = f"sessiond={stranger.http.cookies['sessiond']}"
    await stranger.post("/logout", {}, follow=False)
    stranger.http.cookies.clear()
    assert (await stranger.get("/sessions", Cookie=cookie)).status_code == 303


async def test_sessions_of_another_project_are_not_found(
    stranger: Browser, admin: AsyncClient
) -> None:
    session = await admin.create_session("theirs")
    await session.store_message({"role": "user", "content": "secret"})
    asset = await admin.assets.upload(b"\x89PNG\r\n\x1a\nsecret", media_type="image/png")
    await admin.admin.create_project("other")
    key = str((await admin.admin.create_api_key("other")).secret)
    await sign_in(stranger, key)
    assert "theirs" not in await stranger.page("/sessions")
    for path in (
        *("/sessions/theirs", "/sessions/theirs/messages/1", "/sessions/theirs/messages/1/json"),
        f"/assets/{asset.asset_id}",
    ):
        response = await stranger.get(path)
        assert response.status_code == 404, path
        assert "secret" not in response.text


def test_logins_end_after_twelve_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    logins = Logins(Options(), clock=lambda: now)
    assert logins.cookie == "sessiond"
    assert Logins(Options(is_secure=True)).cookie == "__Host-sessiond"


async def test_cookies_over_https_are_bound_to_the_host(keyed: Running, admin: AsyncClient) -> None:
    key = str((await admin.admin.create_api_key("default")).secret)
    async for browser in open_console(f"127.0.0.1:{keyed.port}", is_secure=True):
        cookie = (await sign_in(browser, key)).headers["set-cookie"]
        assert cookie.startswith("__Host-sessiond=")
        assert "Secure" in cookie


async def test_a_read_only_console_refuses_changes(reader: Browser) -> None:
    response = await reader.post("/sessions/x/settings", {"title": "new"})
    assert response.status_code == 403
    assert "read-only" in response.text
    assert (await reader.post("/theme", {"theme": "dark"})).status_code == 200


async def test_allowed_hosts_are_those_of_the_options() -> None:
    options = Options(listen="0.0.0.0:80", hosts=("Console.example",))
    assert options.allowed_hosts == {"localhost", "127.0.0.1", "[::1]", "console.example"}
    assert create_app(options)
