"""Names of the subjects."""

SESSIOND = "sessiond"
UNCACHED = "sessiond, page cache off"
CACHED = "sessiond, all in the page cache"
AGENTS = "openai-agents"
FLOOR = "floor"
FLOOR_COPY = "floor, COPY"
FLOOR_JSONB = "floor, jsonb"
FLOOR_ORJSON = "floor, orjson"
EMPTY_CALL = "empty gRPC call"
CALL_AND_FLOOR = "empty gRPC call, then the floor"
OPENAI_ADAPTER = "openai adapter"
CLAUDE_ADAPTER = "claude adapter"
CLAUDE_REFERENCE = "claude reference"

WRITERS = (SESSIOND, AGENTS, FLOOR)
BATCHERS = (*WRITERS, FLOOR_JSONB, FLOOR_ORJSON)
LOADERS = (*BATCHERS, FLOOR_COPY)
# An adapter and the store with which it is compared. The key is the prefix of the names of the
# measurements.
ADAPTERS = {
    "openai, ": (OPENAI_ADAPTER, AGENTS),
    "claude, ": (CLAUDE_ADAPTER, CLAUDE_REFERENCE),
}
READERS = (SESSIOND, UNCACHED, CACHED, AGENTS, FLOOR, FLOOR_JSONB)
