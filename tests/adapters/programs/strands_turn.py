"""One turn of an agent of Strands: python strands_turn.py NAMESPACE SESSION PROMPT.

Prints the number of messages with which the agent begins, and its answer.
"""

import os
import sys

from strands import Agent, tool
from strands.models.openai import OpenAIModel

from sessiond.adapters.strands import SessiondSessionManager


@tool
def weather(city: str) -> str:
    """Return the weather.

    Args:
        city: the city.
    """
    return f"21 degrees in {city}"


def main(namespace: str, session_id: str, prompt: str) -> None:
    options = {"base_url": os.environ["OPENAI_BASE_URL"], "api_key": "none"}
    agent = Agent(
        model=OpenAIModel(client_args=options, model_id="fake-1"),
        tools=[weather],
        session_manager=SessiondSessionManager(session_id, namespace=namespace),
        callback_handler=None,
    )
    print(len(agent.messages))
    print(agent(prompt))


if __name__ == "__main__":
    main(*sys.argv[1:])
