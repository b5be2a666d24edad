"""An agent of the Claude Agent SDK with a tool, as its user writes it; run by test_agent.py.

Usage: python agent.py STORE_ARGUMENTS PROMPT...

STORE_ARGUMENTS is a JSON object: target, namespace, and optionally resume and fork. The program
answers all prompts in one conversation, and prints the session's id and each answer as a line of
JSON. At the prompt "die", it kills itself.
"""

import json
import os
import signal
import sys
from typing import Any

import anyio
from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKClient,
    ResultMessage,
    create_sdk_mcp_server,
    tool,
)

from sessiond.adapters.claude_agent_sdk import SessiondSessionStore


@tool("temperature", "Tells the temperature of a city", {"city": str})
async def temperature(arguments: dict[str, Any]) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": f"21 degrees in {arguments['city']}"}]}


async def main(store: dict[str, Any], prompts: list[str]) -> None:
    options = ClaudeAgentOptions(
        session_store=SessiondSessionStore(target=store["target"], namespace=store["namespace"]),
        resume=store.get("resume"),
        fork_session=store.get("fork", False),
        session_store_flush="eager",
        mcp_servers={"weather": create_sdk_mcp_server("weather", tools=[temperature])},
        allowed_tools=["mcp__weather__temperature"],
        model="claude-sonnet-4-5",
        setting_sources=[],
    )
    async with ClaudeSDKClient(options) as client:
        for prompt in prompts:
            if prompt == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            await client.query(prompt)
            async for message in client.receive_response():
                if isinstance(message, ResultMessage):
                    print(json.dumps([message.session_id, message.result]), flush=True)


if __name__ == "__main__":
    anyio.run(main, json.loads(sys.argv[1]), sys.argv[2:])
