"""JSON objects, times and durations: to protobuf and back."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from sessiond import InvalidField
from sessiond._protocol.retry import Deadline
from sessiond._protocol.structs import MAX_DEPTH, fill_struct, from_struct
from sessiond._protocol.times import from_duration, from_timestamp, to_duration, to_timestamp
from sessiond.v1.session_service_pb2 import CreateSessionRequest

TIMES = st.datetimes(
    min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(1 - 2**53, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_structs_come_back_as_they_went(value: dict[str, Any]) -> None:
    struct = Struct()
    fill_struct(struct, value, "config")
    assert from_struct(Struct.FromString(struct.SerializeToString())) == value


def test_structs_agree_with_protobufs_json() -> None:
    value = {"a": [1.5, "x", None, True, {}, []], "b": {"c": {"d": 0.25}}}
    struct = Struct()
    fill_struct(struct, value, "config")
    assert MessageToDict(struct) == value


def test_whole_numbers_come_back_as_int() -> None:
    struct = Struct()
    fill_struct(struct, {"n": 3.0, "big": 1e300}, "config")
    back = from_struct(struct)
    assert (type(back["n"]), type(back["big"])) == (int, float)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"a": {"b": 2**53}}, "config.a.b"),
        ({"a": [0, -(2**53)]}, "config.a[1]"),
        ({"a": float("nan")}, "config.a"),
        ({"a": float("-inf")}, "config.a"),
        ({"a": {1: 2}}, "config.a"),
        ({"a": {1, 2}}, "config.a"),
        ({"a": b"x"}, "config.a"),
        ({"a": datetime.now(UTC)}, "config.a"),
        ({"a": "\ud800"}, "config.a"),
        ({"\ud800": 1}, "config"),
        ([1], "config"),
    ],
)
def test_values_that_a_struct_cannot_hold_are_refused_by_name(value: Any, field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        fill_struct(Struct(), value, "config")
    assert caught.value.field_violations[0].field == field
    assert str(caught.value).startswith(f"INVALID_FIELD: {field} ")


def nested(depth: int, *, lists: bool = False) -> dict[str, Any]:
    value: Any = 1
    for _ in range(depth - 1):
        value = [value] if lists else {"k": value}
    return {"k": value}


@pytest.mark.parametrize("lists", [False, True])
def test_depth_is_bounded_where_parsers_stop(lists: bool) -> None:
    request = CreateSessionRequest()
    fill_struct(request.session.config, nested(MAX_DEPTH, lists=lists), "config")
    parsed = CreateSessionRequest.FromString(request.SerializeToString())
    assert from_struct(parsed.session.config) == nested(MAX_DEPTH, lists=lists)
    with pytest.raises(InvalidField, match="deeper"):
        fill_struct(Struct(), nested(MAX_DEPTH + 1, lists=lists), "config")


def test_a_structure_that_holds_itself_is_refused() -> None:
    value: dict[str, Any] = {}
    value["self"] = value
    with pytest.raises(InvalidField, match="deeper"):
        fill_struct(Struct(), value, "config")


@given(TIMES)
def test_times_come_back_as_they_went(time: datetime) -> None:
    assert from_timestamp(to_timestamp(time, "t")) == time


def test_times_need_a_zone() -> None:
    with pytest.raises(InvalidField, match="created_from has no time zone"):
        to_timestamp(datetime(2026, 1, 1), "created_from")


def test_times_that_are_not_datetimes_are_refused_by_name() -> None:
    with pytest.raises(InvalidField, match="created_from must be a datetime, not str"):
        to_timestamp("2026-01-01T00:00:00Z", "created_from")  # type: ignore[arg-type]


@pytest.mark.parametrize(("given", "expected"), [(90, 90), (0.5, 0.5), (timedelta(days=2), 172800)])
def test_durations(given: Any, expected: float) -> None:
    assert from_duration(to_duration(given, "idle_ttl")).total_seconds() == expected


@pytest.mark.parametrize("given", [float("nan"), float("inf"), 1e300, 10**400, "1h"])
def test_durations_that_are_none(given: Any) -> None:
    with pytest.raises(InvalidField, match="idle_ttl"):
        to_duration(given, "idle_ttl")


@pytest.mark.parametrize("given", [float("inf"), 10**400, None])
def test_timeouts_beyond_what_grpc_counts_never_end(given: Any) -> None:
    assert Deadline(given).remaining() is None


@pytest.mark.parametrize("given", [float("nan"), "30"])
def test_timeouts_that_are_no_numbers_are_refused_by_name(given: Any) -> None:
    with pytest.raises(InvalidField, match=r"timeout is .*; it must be a number of seconds"):
        Deadline(given)
