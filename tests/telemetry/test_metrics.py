"""The metrics and their labels."""

import ssl
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from sessiond.v1.session_service_pb2 import StoreMessagesRequest
from sessiond_server.db.backlog import MAX_QUEUES
from sessiond_server.server import Running
from sessiond_server.telemetry import metrics
from sessiond_server.telemetry.certificates import expires_at

from ..support.metrics import Scrape, here
from ..support.queues import lease_one
from ..support.turns import send
from ..support.waiting import until_async
from ..support.watching import watching
from ..support.wire import Wire, error_of, openai

SERVICE = "sessiond.v1.SessionService"


def grew(before: Scrape, name: str, **labels: str) -> float:
    return here().value(name, **labels) - before.value(name, **labels)


async def test_calls_are_counted_by_method_and_code(wire: Wire) -> None:
    before = here()
    session_id = str(uuid.uuid4())
    await wire.create(session_id)
    await wire.store(session_id, "hello")
    await error_of(wire.get("nowhere"))
    await wire.read(session_id)
    for method, code in (
        ("CreateSession", "OK"),
        ("StoreMessages", "OK"),
        ("GetSession", "NotFound"),
        ("GetMessages", "OK"),
    ):
        labels = {"grpc_service": SERVICE, "grpc_method": method}
        assert grew(before, "grpc_server_started_total", **labels) == 1
        assert grew(before, "grpc_server_handled_total", grpc_code=code, **labels) == 1
        assert grew(before, "grpc_server_handling_seconds_count", **labels) == 1
        assert grew(before, "grpc_server_msg_received_total", **labels) == 1
        sent = 0 if code == "NotFound" else 1
        assert grew(before, "grpc_server_msg_sent_total", **labels) == sent
    assert grew(before, "sessiond_faults_total", reason="SESSION_NOT_FOUND") == 1


async def test_a_stream_that_its_client_leaves_is_counted_as_canceled(wire: Wire) -> None:
    await wire.create("s")
    before = here()
    (await watching(wire, "s")).call.cancel()
    ended = {"grpc_method": "Watch", "grpc_code": "Canceled", "grpc_type": "server_stream"}
    await until_async(
        lambda: grew(before, "grpc_server_handled_total", **ended) == 1, "it was counted"
    )


async def test_messages_are_counted_whichever_way_they_come(wire: Wire) -> None:
    await wire.create("s")
    before = here()
    await wire.store("s", "one", "two", "three")
    assert grew(before, "sessiond_messages_stored_total") == 3
    assert grew(before, "sessiond_messages_bytes_total") > 60
    assert grew(before, "sessiond_append_batch_size_sum") == 3
    await wire.import_("s", [[openai("four")], [openai("five")]])
    assert grew(before, "sessiond_messages_stored_total") == 5
    await wire.store_batch(StoreMessagesRequest(session_id="s", messages=[openai("six")]))
    assert grew(before, "sessiond_messages_stored_total") == 6
    # A turn stores the question and the answer.
    await send(wire, "s", "hello")
    assert grew(before, "sessiond_messages_stored_total") == 8
    await wire.rewind("s", "again", to_seq=6)
    assert grew(before, "sessiond_messages_stored_total") == 9
    await wire.copy("s", "t")
    assert grew(before, "sessiond_copies_total") == 1
    await error_of(wire.store("nowhere", "lost"))
    assert grew(before, "sessiond_messages_stored_total") == 9


async def test_turns_are_counted_by_model_state_and_tokens(wire: Wire) -> None:
    await wire.create("s", model="echo")
    before = here()
    await send(wire, "s", "hello there")
    turn = {"model": "echo", "state": "completed"}
    assert grew(before, "sessiond_turns_ended_total", reason="", **turn) == 1
    assert grew(before, "sessiond_turn_seconds_count", **turn) == 1
    assert grew(before, "sessiond_model_first_token_seconds_count", model="echo") == 1
    assert grew(before, "sessiond_model_tokens_total", model="echo", kind="output") > 0
    assert grew(before, "sessiond_turns_lost_total") == 0


async def test_statements_are_named_after_their_constants(wire: Wire) -> None:
    before = here()
    await wire.create("s")
    await wire.store("s", "hello")
    await wire.list(user="somebody")
    after, count = here(), "sessiond_db_statement_seconds_count"
    names = {
        name
        for name in after.labels(count, "statement")
        if after.value(count, statement=name) > before.value(count, statement=name)
    }
    assert {"messages.append.append", "sessions.insert", "sessions.list"} <= names, names
    assert "other" not in names


def test_models_beyond_a_number_share_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_models", set())
    labels = {metrics.model_label(f"model-{i}") for i in range(1000)}
    assert len(labels) == metrics.MAX_MODELS + 1
    assert "other" in labels
    assert metrics.model_label("model-0") == "model-0"


async def test_no_label_holds_a_session_a_user_or_content(wire: Wire) -> None:
    await wire.create("marked-session", user="marked-user", metadata={"team": "marked-team"})
    await wire.store("marked-session", "marked-content", request_id="marked-request")
    await error_of(wire.get("marked-missing"))
    assert "marked-" not in str(here().samples)


async def test_gauges_show_what_the_process_and_the_database_have(
    wire: Wire, server: Running, query: Callable[..., list[tuple[object, ...]]]
) -> None:
    await wire.create("s")
    await wire.store("s", "one")
    await lease_one(wire, "indexing")
    query(
        "INSERT INTO dead_logs (key, log, queued_at) SELECT gen_random_uuid(), "
        "gen_random_uuid(), now() - interval '1 hour' FROM generate_series(1, 7)"
    )
    await watching(wire, "s")
    await server.sampler.sample()
    await server.sampler.sample_backlog()
    scraped = here()
    assert scraped.value("sessiond_purge_backlog_logs") == 7
    assert scraped.value("sessiond_purge_oldest_seconds") > 3599
    assert scraped.value("sessiond_queue_pending", queue="indexing") == 1
    assert scraped.value("sessiond_migration_version") >= 9
    assert scraped.value("sessiond_watchers") == 1
    assert scraped.value("sessiond_db_pool_size") >= 1
    assert scraped.value("sessiond_resident_memory_bytes") > 10_000_000


async def test_queues_beyond_a_number_share_a_label(
    server: Running, query: Callable[..., list[tuple[object, ...]]]
) -> None:
    for first in (0, 30, 60):
        query(
            "INSERT INTO processing (key, log, queue, project_id, is_ready, ready_at) SELECT "
            "gen_random_uuid(), gen_random_uuid(), 'queue-' || i, gen_random_uuid(), true, now() "
            "FROM generate_series(%s::int, %s::int) AS i",
            (first, first + 29),
        )
        await server.sampler.sample_backlog()
        query("DELETE FROM processing")
    labels = here().labels("sessiond_queue_pending", "queue")
    assert len({name for name in labels if name.startswith("queue-")}) == MAX_QUEUES
    assert "other" in labels


def test_the_expiry_of_a_certificate_is_read(tmp_path: Path) -> None:
    pem = tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "10", "-subj",
         "/CN=localhost", "-keyout", tmp_path / "key.pem", "-out", pem],
        check=True, capture_output=True,
    )  # fmt: skip
    end = subprocess.run(
        ["openssl", "x509", "-noout", "-enddate", "-in", pem],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    wanted = ssl.cert_time_to_seconds(end.strip().removeprefix("notAfter="))
    assert expires_at(b"# a comment\n" + pem.read_bytes()) == wanted
    for broken in (b"", b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"):
        with pytest.raises(ValueError):
            expires_at(broken)
