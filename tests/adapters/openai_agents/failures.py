"""The SDK's tests that fail on any class but the SDK's own, with the reasons."""

# The names of the tests, by reason and file.
FAILURES: dict[str, dict[str, tuple[str, ...]]] = {
    "looks into the connections, the locks and the commits of SQLite": {
        "tests/memory/test_session.py": (
            "test_sqlite_session_close_closes_worker_thread_connections",
            "test_sqlite_session_reaps_connections_from_exited_worker_threads",
            "test_sqlite_session_closes_retired_connections_before_the_next_allocation",
            "test_sqlite_session_keeps_connections_of_live_worker_threads",
            "test_sqlite_session_closed_rejects_empty_add_items",
            "test_sqlite_session_file_lock_is_shared_across_instances",
            "test_sqlite_session_failed_add_items_releases_write_lock",
            "test_sqlite_session_failed_clear_session_rolls_back",
            "test_sqlite_session_failed_pop_item_releases_write_lock",
            "test_sqlite_session_rollback_failure_evicts_connection",
            "test_sqlite_session_close_retries_quarantined_connection",
            "test_sqlite_session_post_commit_cancellation_propagates_after_known_outcome[add]",
            "test_sqlite_session_post_commit_cancellation_propagates_after_known_outcome[pop]",
            "test_sqlite_session_post_commit_cancellation_propagates_after_known_outcome[clear]",
        ),
        "tests/memory/test_openai_responses_compaction_session.py": (
            "TestOpenAIResponsesCompactionSession::test_settled_pop_failure_invalidates_response_chain[cancelled]",
            "TestOpenAIResponsesCompactionSession::test_settled_pop_failure_invalidates_response_chain[error]",
            "TestOpenAIResponsesCompactionSession::test_settled_clear_failure_invalidates_response_chain[cancelled]",
            "TestOpenAIResponsesCompactionSession::test_settled_clear_failure_invalidates_response_chain[error]",
        ),
        "tests/test_run_impl_resume_paths.py": (
            "test_handoff_resume_after_cancelled_compaction_commits[run-live]",
            "test_handoff_resume_after_cancelled_compaction_commits[run-json]",
            "test_handoff_resume_after_cancelled_compaction_commits[streamed-live]",
            "test_handoff_resume_after_cancelled_compaction_commits[streamed-json]",
        ),
    },
    "writes rows into the tables that are no JSON; sessiond refuses to store those": {
        "tests/memory/test_session.py": (
            "test_sqlite_session_pop_item_skips_corrupt_most_recent",
            "test_sqlite_session_pop_item_returns_none_after_dropping_only_corrupt_rows",
            "test_sqlite_session_get_items_limit_skips_corrupt_newest_rows",
            "test_sqlite_session_get_items_session_settings_limit_skips_corrupt_rows",
        ),
        "tests/extensions/memory/test_sqlalchemy_session.py": (
            "test_pop_item_skips_corrupt_most_recent",
            "test_get_items_limit_skips_corrupt_newest_rows",
            "test_pop_item_returns_none_after_dropping_only_corrupt_rows",
        ),
    },
    "EncryptedSession checks an item before it is removed, with its own classes alone": {
        "tests/extensions/memory/test_encrypt_session.py": (
            "test_encrypted_pop_wrong_key_preserves_recoverable_history[False]",
            "test_encrypted_pop_wrong_key_preserves_recoverable_history[True]",
            "test_encrypted_pop_rechecks_authentication_after_expired_tail",
            "test_encrypted_pop_authentication_is_atomic_with_concurrent_mutations[append]",
            "test_encrypted_pop_authentication_is_atomic_with_concurrent_mutations[clear]",
            "test_encrypted_pop_wrong_key_preserves_row_identity",
            "test_encrypted_pop_cancellation_waits_for_authentication_rollback",
            "test_encrypted_pop_preserves_sqlalchemy_history",
        ),
    },
    "looks into the tables, the engines and the statements of SQLAlchemy": {
        "tests/extensions/memory/test_sqlalchemy_session.py": (
            "test_sqlalchemy_session_defaults_to_escaped_non_ascii_storage",
            "test_sqlalchemy_session_can_store_non_ascii_without_escaping",
            "test_sqlite_fallback_reserves_writer_before_tail_claim",
            "test_pop_item_supports_unknown_delete_rowcount",
            "test_pop_item_retries_returning_claim_lost_to_concurrent_delete",
            "test_mutation_cancellation_waits_for_transaction_exit[add]",
            "test_mutation_cancellation_waits_for_transaction_exit[pop]",
            "test_mutation_cancellation_waits_for_transaction_exit[clear]",
            "test_add_items_waits_for_transient_sqlite_write_lock",
            "test_add_items_concurrent_first_access_across_from_url_sessions",
            "test_add_items_concurrent_first_access_across_from_url_sessions_cross_loop",
            "test_add_items_concurrent_first_access_with_shared_session_cross_loop",
            "test_add_items_cancelled_waiter_does_not_strand_table_init_lock",
            "test_create_tables_false_does_not_allocate_shared_init_lock",
            "test_get_items_same_timestamp_consistent_order",
            "test_pop_item_same_timestamp_returns_latest",
            "test_get_items_orders_by_id_for_ties",
            "test_engine_property_from_url",
            "test_engine_property_from_external_engine",
            "test_engine_property_is_read_only",
            "test_sqlite_configuration_registry_releases_collected_engines",
            "test_sqlite_configuration_registry_does_not_grow_unbounded",
        ),
    },
    "counts all calls of asyncio.sleep(), also those of our client": {
        "tests/test_agent_runner.py": ("test_wait_for_session_cleanup_logs_when_targets_linger",),
    },
}
