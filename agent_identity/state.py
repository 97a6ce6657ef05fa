"""Public API for shared state: used proofs, spent limits, revocations.

>>> from agent_identity import Enforcer
>>> from agent_identity.state import SqliteState
>>> state = SqliteState("/var/lib/agents/state.sqlite")
>>> enforcer = Enforcer.open("evidence", state=state)  # doctest: +SKIP
"""

from agent_identity.authority.memory_state import MemoryState
from agent_identity.authority.postgres_state import PostgresState
from agent_identity.authority.redis_state import RedisState
from agent_identity.authority.sqlite_state import SqliteState
from agent_identity.authority.state import Debit, StateStore

__all__ = ["Debit", "MemoryState", "PostgresState", "RedisState", "SqliteState", "StateStore"]
