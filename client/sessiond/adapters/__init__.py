"""Session stores for agent frameworks, kept by sessiond: one module per framework.

| framework | module | extra |
|---|---|---|
| Claude Agent SDK | `sessiond.adapters.claude_agent_sdk` | `claude-agent-sdk` |
| OpenAI Agents SDK | `sessiond.adapters.openai_agents` | `openai-agents` |
| Pydantic AI | `sessiond.adapters.pydantic_ai` | `pydantic-ai` |
| Strands Agents | `sessiond.adapters.strands` | `strands` |

This package imports none of them; each module imports its own framework. To add an adapter, read
`_backend.py`: it connects an adapter to the server, from any event loop and from none.
"""
