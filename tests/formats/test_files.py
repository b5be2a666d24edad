"""Files in messages."""

import pytest

from sessiond_server.formats.files import parse_data_url


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("data:text/plain,a%20b", ("text/plain", "YSBi")),
        ("data:text/plain;base64,YSBi", ("text/plain", "YSBi")),
        ("data:,é", ("", "w6k=")),
        # JSON escapes can spell half of a surrogate pair, which UTF-8 cannot.
        ("data:,a\ud800b", ("", "YT9i")),
        ("https://example.com/a", None),
    ],
)
def test_data_urls_are_parsed(url: str, parsed: tuple[str, str] | None) -> None:
    assert parse_data_url(url) == parsed
