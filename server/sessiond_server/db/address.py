"""URLs of databases, which may name several hosts, in the form that libpq defines."""

import os
from collections.abc import Mapping
from urllib.parse import quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

# Parameters for libpq that the URL may override.
#
# The loss of a host is noticed after 15 seconds if it has not acknowledged data, and after a minute
# if the connection is idle. The kernel's own defaults are a quarter of an hour and two hours.
_DEFAULTS = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
_SECRETS = ("password", "sslpassword")
_FORM = "postgresql://USER:PASSWORD@HOST:PORT/NAME"


def normalized(url: str) -> str:
    """Return the URL in the form that libpq reads.

    Args:
        url: `postgresql://USER:PASSWORD@HOST:PORT/NAME?PARAMETER=VALUE`. There may be several
            HOST:PORT, separated by commas. A scheme such as postgresql+psycopg is allowed.

    Raises:
        ValueError: if `url` is no such URL. The error does not contain the URL, which may have a
            password.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError(f"is not a URL of the form {_FORM}")
    if scheme.partition("+")[0] not in ("postgresql", "postgres"):
        raise ValueError(f"names {scheme!r}, but sessiond runs on PostgreSQL: postgresql://...")
    plain = f"postgresql://{rest}"
    if _is_readable(plain):
        return plain
    try:
        # SQLAlchemy also takes characters that libpq wants to be percent-encoded.
        encoded = make_url(plain).render_as_string(hide_password=False)
    except (ArgumentError, ValueError):
        encoded = ""
    if not encoded or not _is_readable(encoded):
        raise ValueError(
            f"is not a URL of the form {_FORM}; several hosts are HOST:PORT,HOST:PORT, and what "
            "follows a ? has to be parameters that libpq knows, such as sslmode=require"
        )
    return encoded


def _is_readable(url: str) -> bool:
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        return False
    ports = str(parts.get("port", "")).split(",")
    hosts = str(parts.get("hostaddr") or parts.get("host", "")).split(",")
    return len(ports) in (1, len(hosts)) and all(not port or port.isdecimal() for port in ports)


def conninfo(url: str) -> str:
    """Return the connection string to connect with: the URL, and sessiond's defaults."""
    given = conninfo_to_dict(url)
    defaults = {name: value for name, value in _DEFAULTS.items() if name not in given}
    if "," in str(given.get("host", "")) and not _wanted_server(given):
        defaults["target_session_attrs"] = "read-write"
    return make_conninfo(url, **defaults)


def needs_writable(url: str) -> bool:
    """Return whether connections must be able to write. False = the URL allows standbys."""
    return _wanted_server(conninfo_to_dict(url)) in ("", "read-write", "primary")


def _wanted_server(parts: Mapping[str, object]) -> str:
    return str(parts.get("target_session_attrs") or os.environ.get("PGTARGETSESSIONATTRS", ""))


def redacted(url: str) -> str:
    """Return the URL with *** in place of passwords."""
    parts = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    parts |= dict.fromkeys((name for name in _SECRETS if name in parts), "***")
    user = quote(parts.pop("user", ""), safe="")
    if password := parts.pop("password", ""):
        user += f":{password}"
    hosts, ports = parts.get("host", ""), parts.get("port", "")
    address = ""
    if hosts and "/" not in hosts:
        del parts["host"]
        parts.pop("port", None)
        names = hosts.split(",")
        # A single port applies to all hosts.
        numbers = ports.split(",") if "," in ports else [ports] * len(names)
        address = ",".join(
            (f"[{name}]" if ":" in name else name) + (f":{number}" if number else "")
            for name, number in zip(names, numbers, strict=True)
        )
    name = quote(parts.pop("dbname", ""), safe="")
    query = urlencode(parts, safe="/,*")
    return f"postgresql://{user}{'@' if user else ''}{address}/{name}{'?' if query else ''}{query}"
