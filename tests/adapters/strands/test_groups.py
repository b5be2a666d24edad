"""A graph of agents, interrupted by an error and resumed from its session by another object."""

from typing import Any

import pytest

pytest.importorskip("strands", reason="needs the framework: `make adapters-test`")

from strands import Agent
from strands.models.openai import OpenAIModel
from strands.multiagent import GraphBuilder

from sessiond.adapters.strands import SessiondSessionManager

from ...support.model_server import ModelServer, Reply, fails


def test_a_graph_goes_on_after_an_error(target: str, namespace: str) -> None:
    with ModelServer() as models:

        def graph() -> Any:
            options = {"base_url": models.openai_url, "api_key": "none", "max_retries": 0}
            builder = GraphBuilder()
            for name in ("writer", "critic"):
                model = OpenAIModel(client_args=options, model_id="fake-1")
                agent = Agent(name=name, model=model, callback_handler=None)
                builder.add_node(agent, name)
            builder.add_edge("writer", "critic")
            builder.set_entry_point("writer")
            builder.set_execution_timeout(120)
            manager = SessiondSessionManager("team", target=target, namespace=namespace)
            builder.set_session_manager(manager)
            return builder.build()

        models.script(Reply("A poem."), fails(400, "The critic is out."))
        with pytest.raises(Exception, match="out"):
            graph()("Write a poem.")
        models.script(Reply("It is good."))
        result = graph()("Write a poem.")
        assert str(result.results["critic"].result).strip() == "It is good."
        assert len(models.requests) == 3
        assert "A poem." in str(models.requests[-1].body)
