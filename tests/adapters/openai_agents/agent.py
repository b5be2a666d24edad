"""An agent of the OpenAI Agents SDK with a tool, as its user writes it; run by test_agent.py.

Usage: python agent.py SESSION_ARGUMENTS PROMPT...

SESSION_ARGUMENTS is a JSON object: session_id, target, and optionally namespace. The program
answers all prompts in one session, and prints each answer as a line of JSON. At the prompt "die",
it kills itself.
"""

import asyncio
import json
import os
import signal
import sys
from typing import Any

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool
from openai import AsyncOpenAI

from sessiond.adapters.openai_agents import SessiondSession


@function_tool
def temperature(city: str) -> str:
    """Tell the temperature of a city."""
    return f"21 degrees in {city}"


async def main(arguments: dict[str, Any], prompts: list[str]) -> None:
    client = AsyncOpenAI(base_url=os.environ["MODEL_URL"], api_key="none", max_retries=0)
    agent = Agent(
        name="weather",
        instructions="Be brief.",
        model=OpenAIChatCompletionsModel(model="fake", openai_client=client),
        tools=[temperature],
    )
    session = SessiondSession(**arguments)
    for prompt in prompts:
        if prompt == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        result = Runner.run_streamed(agent, prompt, session=session)
        async for _ in result.stream_events():
            pass
        print(json.dumps(result.final_output), flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1]), sys.argv[2:]))
