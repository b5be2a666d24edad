"""URLs of databases: libpq's form, several hosts, and passwords that are never shown."""

import pytest
from psycopg.conninfo import conninfo_to_dict

from sessiond_server.db import address
from sessiond_server.settings import Settings


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("postgresql://u:p@h:1/d", "postgresql://u:p@h:1/d"),
        ("postgres://u@h/d?sslmode=require", "postgresql://u@h/d?sslmode=require"),
        ("postgresql+psycopg://u@h/d", "postgresql://u@h/d"),
        ("postgresql://u@h1:1,h2:2/d", "postgresql://u@h1:1,h2:2/d"),
        ("postgresql://u@h1,h2/d?port=1,2", "postgresql://u@h1,h2/d?port=1,2"),
        ("postgresql://u@[::1]:1,h/d", "postgresql://u@[::1]:1,h/d"),
        ("postgresql:///d?host=/run/a,/run/b", "postgresql:///d?host=/run/a,/run/b"),
        ("postgresql://u:50%@h/d", "postgresql://u:50%25@h/d"),
    ],
)
def test_a_url_is_taken_in_the_form_of_libpq(given: str, taken: str) -> None:
    assert Settings(database_url=given).database_url == taken


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("u:secret@h/d", "not a URL"),
        ("mysql://u:secret@h/d", "names 'mysql'"),
        ("postgresql://u:secret@h:x/d", "not a URL"),
        ("postgresql://u:secret@h1,h2,h3/d?port=1,2", "not a URL"),
        ("postgresql://u:secret@h/d?no_parameter=1", "parameters that libpq knows"),
    ],
)
def test_another_url_is_refused_without_its_password(url: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as refused:
        address.normalized(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:secret@h1:1,h2:2/d", "postgresql://u:***@h1:1,h2:2/d"),
        ("postgresql://u:secret@h1,[::1]/d?port=7", "postgresql://u:***@h1:7,[::1]:7/d"),
        (
            "postgresql://u@/d?host=/run/a&password=secret&sslpassword=secret",
            "postgresql://u:***@/d?sslpassword=***&host=/run/a",
        ),
    ],
)
def test_the_log_shows_no_password(url: str, shown: str) -> None:
    found = str(Settings(database_url=url).redacted()["database_url"])
    assert "secret" not in found
    assert conninfo_to_dict(found) == conninfo_to_dict(shown)


def test_a_server_that_can_be_written_to_is_wanted_unless_the_url_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wanted(url: str) -> object:
        return conninfo_to_dict(address.conninfo(url)).get("target_session_attrs")

    assert wanted("postgresql://h1,h2/d") == "read-write"
    assert wanted("postgresql://h/d?target_session_attrs=any") == "any"
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "primary")
    assert wanted("postgresql://h/d") is None
