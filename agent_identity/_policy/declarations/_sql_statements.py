"""The tables of SQL statements, read with sqlglot."""

import logging
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias, final

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers
from sqlglot.tokenizer_core import Token, TokenType

from agent_identity._policy.decision.resources import Access
from agent_identity.errors import ConfigurationError

_MAX_STATEMENTS: Final = 64
_MAX_TABLES: Final = 62
# MySQL runs these comments, and reads "--1" as two signs.
_RUN_COMMENT: Final = re.compile(r"/\*M?!|--(?![\s-]|$)")
_MYSQL: Final = frozenset({"mysql", "doris", "starrocks", "singlestore", "tidb"})

_OPENING: Final = frozenset({TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE})
_CLOSING: Final = frozenset({TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE})
_TYPES: Final = frozenset({TokenType.L_BRACKET, TokenType.L_BRACE})
_MAX_WEIGHT: Final = 20_000

_Found: TypeAlias = dict[tuple[str, Access], None]


@final
class SqlReader:
    """Reads statements of one dialect.

    Args:
        dialect: Its name.

    Raises:
        ConfigurationError: Sqlglot does not know the dialect.
    """

    def __init__(self, dialect: str) -> None:
        try:
            self._dialect: Final = Dialect.get_or_raise(dialect)
        except ValueError:
            raise ConfigurationError(
                f"sqlglot does not know the dialect {dialect!r}; give one like 'postgres'"
            ) from None
        self._checks_comments = dialect.lower() in _MYSQL

    def read(self, text: str) -> tuple[_Found, bool]:
        """Return the tables with their accesses, and whether these are all."""
        found: _Found = {}
        if self._checks_comments and _RUN_COMMENT.search(text):
            return found, False
        with _SILENCE:
            tokens = self._dialect.tokenize(text)
            if _weight(tokens) > _MAX_WEIGHT:
                return found, False
            statements = self._dialect.parser().parse(tokens, text)
        whole = 0 < len(statements) <= _MAX_STATEMENTS
        for statement in statements[:_MAX_STATEMENTS]:
            if statement is not None:
                whole &= self._take(statement, found)
        if len(found) > _MAX_TABLES:
            return dict.fromkeys(list(found)[:_MAX_TABLES]), False
        return found, whole

    def _take(self, statement: exp.Expr, found: _Found) -> bool:
        """Add the tables of a statement; return whether these are all."""
        if isinstance(statement, exp.Transaction | exp.Commit | exp.Rollback | exp.Semicolon):
            return True
        if not _is_known(statement):
            return False
        statement = normalize_identifiers(statement, dialect=self._dialect)
        whole = not any(statement.find_all(exp.Command, exp.Anonymous))
        written = _Targets(statement)
        for table in statement.find_all(exp.Table):
            name = _name(table)
            if name is None:
                whole = False
            elif id(table) in written.accesses:
                found.update(((name, access), None) for access in written.accesses[id(table)])
            elif not _is_common(table):
                found[name, "read"] = None
        return whole and written.whole


def _weight(tokens: Sequence[Token]) -> int:
    """Return an estimate of the work of the parser, which goes back at brackets that may be types or calls."""
    total, weights, before = 0, [1], ""
    for token in tokens:
        kind = token.token_type
        if kind in _OPENING:
            factor = 3 if kind in _TYPES else 2 if before[-1:].isalnum() or before[-1:] == "_" else 1
            weights.append(min(weights[-1] * factor, _MAX_WEIGHT + 1))
        elif kind in _CLOSING and len(weights) > 1:
            weights.pop()
        total, before = total + weights[-1], token.text
    return total


@final
class _Silence(threading.local):
    """Keeps sqlglot from logging the statements that this thread reads; they hold values."""

    depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1

    def filter(self, _: logging.LogRecord) -> bool:
        """Return whether a message is logged."""
        return self.depth == 0


_SILENCE: Final = _Silence()


def _is_known(statement: exp.Expr) -> bool:
    """Return whether tables are all that a statement of this kind touches."""
    if isinstance(statement, exp.Create | exp.Drop | exp.Alter):
        kinds = ("TABLE", "VIEW", "INDEX") if isinstance(statement, exp.Create) else ("TABLE", "VIEW")
        return str(statement.args.get("kind") or "").upper() in kinds
    if isinstance(statement, exp.TruncateTable):
        return not statement.args.get("is_database")
    return isinstance(statement, exp.Query | exp.Insert | exp.Update | exp.Delete | exp.Merge)


@final
class _Targets:
    """The tables of a statement that it writes or deletes from, by their place in it.

    Attributes:
        accesses: By the identity of the node of a table.
        whole: False if a target is named in a way that does not show the table.
    """

    def __init__(self, statement: exp.Expr) -> None:
        self.accesses: dict[int, list[Access]] = {}
        self.whole = True
        for node in statement.find_all(
            exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Create, exp.Drop, exp.Alter, exp.TruncateTable, exp.Into
        ):
            if isinstance(node.parent, exp.Alter) or node.find_ancestor(exp.When):
                continue  # A part of a table, or of the target of a merge.
            for table, accesses in self._of(node):
                self.accesses.setdefault(id(table), []).extend(accesses)

    def _of(self, node: exp.Expr) -> Iterator[tuple[exp.Table, list[Access]]]:
        named: list[exp.Expr] = node.args.get("tables") or []
        if isinstance(node, exp.Delete) and named:
            self._hide(map(id, named))  # It names targets by their aliases.
            named = []
        tables = [
            table
            for part in (node.this, *named, *_further(node))
            if isinstance(part, exp.Expr)
            for table in _direct(part)
        ]
        if isinstance(node, exp.Update) and (hidden := _aliased(node, tables)):
            self._hide(hidden)
            tables = [table for table in tables if id(table) not in hidden]
        accesses = _accesses(node)
        yield from ((table, accesses) for table in tables)
        if not tables:
            self.whole = False

    def _hide(self, aliases: Iterable[int]) -> None:
        """Take nodes for aliases of tables that no one resolves here."""
        self.whole = False
        self.accesses.update((alias, []) for alias in aliases)


def _further(node: exp.Expr) -> Sequence[exp.Expr]:
    if isinstance(node, exp.TruncateTable):
        return node.expressions
    return (node.args.get("actions") or ()) if isinstance(node, exp.Alter) else ()


def _accesses(node: exp.Expr) -> list[Access]:
    if isinstance(node, exp.Delete | exp.Drop | exp.TruncateTable):
        return ["delete"]
    if isinstance(node, exp.Insert) and node.args.get("overwrite"):
        return ["write", "delete"]
    if isinstance(node, exp.Create) and node.args.get("replace"):
        return ["write", "delete"]
    if isinstance(node, exp.Merge) and any(
        isinstance(then := when.args.get("then"), exp.Var) and then.name.upper() == "DELETE"
        for when in node.find_all(exp.When)
    ):
        return ["write", "delete"]
    return ["write"]


def _direct(part: exp.Expr) -> list[exp.Table]:
    """Return the tables of a target, without those of queries in it."""
    part = part.this if isinstance(part, exp.Schema) else part

    def ends(node: exp.Expr) -> bool:
        return isinstance(node, exp.Query) and not isinstance(node, exp.Table)

    return [node for node in part.walk(prune=ends) if isinstance(node, exp.Table)]


def _aliased(node: exp.Update, tables: list[exp.Table]) -> set[int]:
    """Return the targets that are aliases of tables named elsewhere in the statement."""
    own = set(map(id, tables))
    aliases = {table.alias for table in node.find_all(exp.Table) if id(table) not in own and table.alias}
    return {id(table) for table in tables if not table.args.get("db") and table.name in aliases}


def _name(table: exp.Table) -> str | None:
    """Return the name of a table with the schema and catalog that the statement has; ``None`` for a function."""
    parts = table.parts
    if not all(isinstance(part, exp.Identifier) and part.name for part in parts):
        return None
    return ".".join(f'"{part.name}"' if "." in part.name else str(part.name) for part in parts)


def _is_common(table: exp.Table) -> bool:
    """Return whether a name is that of a common table expression that is visible there."""
    if table.args.get("db"):
        return False
    child: exp.Expr = table
    parent = table.parent
    while parent is not None:
        clause = next((one for one in parent.args.values() if isinstance(one, exp.With)), None)
        if clause is not None and child is not clause and any(one.alias == table.name for one in clause.expressions):
            return True
        if isinstance(parent, exp.With):
            before = parent.expressions if parent.args.get("recursive") else _until(parent.expressions, child)
            if any(one.alias == table.name for one in before):
                return True
        child, parent = parent, parent.parent
    return False


def _until(expressions: Sequence[exp.Expr], last: exp.Expr) -> Iterator[exp.Expr]:
    for one in expressions:
        if one is last:
            return
        yield one


logging.getLogger("sqlglot").addFilter(_SILENCE)
