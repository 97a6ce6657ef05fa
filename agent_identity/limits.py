"""Public API for the limits of a task: uses, rates and sums.

>>> from datetime import timedelta
>>> from agent_identity.limits import Limit
>>> limits = (
...     Limit.uses("pay", 3),
...     Limit.uses("*", 20),
...     Limit.sum("pay", "amount", 500),
...     Limit.rate("search", 10, per=timedelta(minutes=1)),
... )
"""

from agent_identity._authority.grants.limits import Limit

__all__ = ["Limit"]
