"""Tables that a SQL statement touches (extra ``sql``)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from agent_identity._common.typed_calls import typed
from agent_identity._policy.decision.resources import UNKNOWN, Access, CallTouches, DeclaredTouches, Touch
from agent_identity._policy.declarations._clear_names import is_clear
from agent_identity.errors import ConfigurationError

if TYPE_CHECKING:
    from agent_identity._policy.declarations._sql_statements import SqlReader

_MAX_TEXT: Final = 16_384
_OTHERS: Final = "*"

_Labels: TypeAlias = Mapping[str, Sequence[str]]


@typed
def sql_touches(
    argument: str,
    system: str,
    *,
    dialect: str,
    data: Mapping[str, Sequence[str]] | None = None,
) -> CallTouches:
    """Declare the tables that the SQL in an argument reads, writes and deletes from, for ``touches=``.

    Each table has its access: ``SELECT`` reads; ``INSERT``, ``UPDATE``, ``MERGE``, ``CREATE`` and ``ALTER`` write;
    ``DELETE``, ``TRUNCATE`` and ``DROP`` delete. Names of common table expressions are no tables. Names are in the
    normal case of the dialect, as the statement has them: schemas are not filled in. A name that is no plain
    identifier, or looks like a secret, is ``{argument}`` with a keyed digest. What cannot be read as a known
    statement, or calls a function that sqlglot does not know, is unknown too. Views, triggers and functions are not
    looked into.

    Args:
        argument: The name of the argument with the SQL.
        system: The database, as an OpenLineage namespace: ``postgres://db.example.com:5432``.
        dialect: The dialect, as sqlglot names it: ``postgres``, ``mysql``, ``sqlite``, ``snowflake``.
        data: Labels of the data by table; those of ``"*"`` are the labels of all others.

    Raises:
        TypeError: A text is no ``str``, or the labels are no lists by table.
        ValueError: The system, an argument or a label is malformed.
        ConfigurationError: The extra ``sql`` is not installed, or sqlglot does not know the dialect.
    """
    labels: _Labels = {} if data is None else dict(data)
    for listed in ((), *labels.values()):
        Touch(system, f"{{{argument}}}", "execute", listed)  # Raises if it is malformed.
    unknown = Touch(system, UNKNOWN, "execute")
    reader = _reader(dialect)

    def declare(arguments: Mapping[str, object]) -> list[Touch]:
        text = arguments.get(argument)
        if not isinstance(text, str) or len(text) > _MAX_TEXT:
            return [unknown]
        tables, whole = reader.read(text)
        touches = [_touch(system, argument, name, access, labels) for name, access in tables]
        return touches if whole else [*touches, unknown]

    return DeclaredTouches(declare, (argument,), unknown)


def _touch(system: str, argument: str, name: str, access: Access, labels: _Labels) -> Touch:
    stated = labels.get(name, labels.get(_OTHERS, ()))
    if name in labels or is_clear(name):
        return Touch(system, name, access, stated)
    return Touch(system, f"{{{argument}}}", access, stated, filled=name)


def _reader(dialect: str) -> "SqlReader":
    try:
        from agent_identity._policy.declarations._sql_statements import SqlReader  # noqa: PLC0415  Needs the extra.
    except ImportError:
        raise ConfigurationError(
            "the extra sql for the tables of statements is not installed; run pip install '.[sql]' in the checkout"
        ) from None
    return SqlReader(dialect)
