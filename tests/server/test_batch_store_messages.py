"""BatchStoreMessages: each request as StoreMessages would do it, whatever becomes of the others."""

from ..support.wire import Wire


async def test_smoke(wire: Wire, query) -> None:
    for i in range(5):
        await wire.create(f"s{i}")
    print(await wire.store_batch(*[(f"s{i}", "a", "b") for i in range(5)], ("s1", "c"), ("s9", "x")))
    print(query("select seq, total_bytes, total_tokens, tokens from messages order by key, seq"))
