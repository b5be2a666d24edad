"""The session manager, which most programs use."""

from typing import TYPE_CHECKING, Any

from strands.session.repository_session_manager import RepositorySessionManager
from strands.types.session import SessionAgent

from sessiond._requests.options import SessionSettings
from sessiond.adapters._backend import AnyClient
from sessiond.adapters.strands._repository import SessiondSessionRepository

if TYPE_CHECKING:
    from strands.types.agent import LocalAgent


class SessiondSessionManager(RepositorySessionManager):
    """A session manager of Strands Agents whose repository is a SessiondSessionRepository.

    Args:
        session_id: the session, which is created if there is none.
        client: as in SessiondSessionRepository.
        target: as in SessiondSessionRepository.
        api_key: as in SessiondSessionRepository.
        namespace: as in SessiondSessionRepository.
        create: as in SessiondSessionRepository.

    Raises:
        InvalidField: if an argument is malformed.
        SessionException: if the server was not reached.
    """

    def __init__(
        self,
        session_id: str,
        *,
        client: AnyClient | None = None,
        target: str | None = None,
        api_key: str | None = None,
        namespace: str | None = None,
        create: SessionSettings | None = None,
    ) -> None:
        repository = SessiondSessionRepository(
            client=client, target=target, api_key=api_key, namespace=namespace, create=create
        )
        super().__init__(session_id, repository)

    def initialize(self, agent: "LocalAgent", **kwargs: Any) -> None:
        """Restore an agent from the session, or add it there.

        If only other programs have written the session, the agent gets their messages.
        """
        repository, id = self.session_repository, agent.agent_id
        # Strands restores an agent from the stored state of its conversation manager. Here, nobody
        # has stored that state yet, so store the agent first.
        if id not in self._latest_agent_message and repository.has_only_messages(
            self.session_id, id
        ):
            repository.create_agent(self.session_id, SessionAgent.from_agent(agent))
        super().initialize(agent, **kwargs)
