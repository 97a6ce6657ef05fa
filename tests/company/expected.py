"""What answers have to say, computed from the ledger of truth alone.

Each function returns rows in the form of ``--json``, with two differences: a record is named by the time at which the
call or event began, since the simulation does not know the ids of records, and the weight of a row is left out where it
is the same for all rows.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

from company import world
from company.truth import DAY, NS, Act, Event, Granted, Truth

ACCESS: Final = {"read": "reads", "write": "writes", "delete": "deletes", "execute": "executes", "send": "sends to"}
_HOUR: Final = 3_600 * NS
Row = dict[str, Any]


def when(at: int) -> datetime:
    """Return a time that people read."""
    return datetime.fromtimestamp(at // NS, UTC)


def week(at: int) -> str:
    """Return the week of ISO 8601."""
    year, number, _ = when(at).isocalendar()
    return f"{year}-W{number:02}"


def hour(at: int) -> str:
    """Return the hour of the week."""
    return when(at).strftime("%A %H:00 UTC")


# Question 19 and report coverage.


def coverage(truth: Truth, places: Iterable[str], *, traces: bool) -> Row:
    """Return the share of tool calls that humans answer for, and the calls for which no verified human does."""
    calls = truth.calls(places)
    alone = [one for one in truth.traced if one.act is None and not one.copies] if traces else []
    groups: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for act in calls:
        for key in (("agent", act.agent), ("service", act.service or ""), ("week", week(act.at))):
            groups[key].append(act)
    for span in alone:
        for key in (("agent", ""), ("service", span.service), ("week", week(span.at))):
            groups[key].append(None)
    return {
        "total": share([*calls, *(None for _ in alone)]),
        "groups": [
            {"dimension": dimension, "name": name, "share": share(found)}
            for (dimension, name), found in sorted(groups.items())
        ],
        "others": sorted([*_others(calls), *_alone(alone)], key=str),
    }


def share(calls: Sequence[Act | None]) -> Row:
    """Return the numbers of some calls; nobody stands behind ``None``."""
    acts = [act for act in calls if act is not None]
    human = [act for act in acts if act.human]
    return {
        "calls": len(calls),
        "attributed": sum(act.principal is not None for act in acts),
        "human": len(human),
        "verified_human": sum(act.principal.provenance == "verified" for act in human if act.principal),
        "refused": sum(act.refused for act in acts),
    }


def _others(calls: Sequence[Act]) -> Iterator[Row]:
    found: dict[tuple[str, ...], list[Act]] = defaultdict(list)
    for act in calls:
        party = act.principal
        if party is not None and party.kind == "human" and party.provenance == "verified":
            continue
        why = "outside any task" if party is None else "human, asserted only" if act.human else "for a service"
        found[why, act.tool, act.agent, act.service or "", "" if party is None else party.id].append(act)
    for (why, tool, agent, service, name), acts in found.items():
        yield {
            "why": why,
            "tool": tool,
            "agent": agent,
            "service": service,
            "party": name,
            "calls": len(acts),
            "refused": sum(act.refused for act in acts),
            "first_ns": str(acts[0].at),
            "last_ns": str(acts[-1].at),
            "example": acts[0].at,
        }


def _alone(spans: Sequence[Any]) -> Iterator[Row]:
    found: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for span in spans:
        found[span.tool, span.service, span.library].append(span.at)
    for (tool, service, library), times in found.items():
        yield {
            "why": "traced without a record",
            "tool": tool,
            "agent": "",
            "service": service,
            "party": library,
            "calls": len(times),
            "refused": 0,
            "first_ns": str(min(times)),
            "last_ns": str(max(times)),
            "example": "span",
        }


# Questions 8 to 11 and report scope.


class Scopes:
    """What was granted and what was used.

    Args:
        truth: What happened.
        places: Where.
    """

    def __init__(self, truth: Truth, places: Iterable[str]) -> None:
        self.calls = [act for act in truth.calls(places) if act.agent]
        self.grants = truth.granted(places)
        self.events = truth.of(places, "pinned", "changed", "accepted")
        times = [*(act.at for act in truth.judged(places)), *(grant.issued * NS for grant in self.grants)]
        self.last = max(times)
        self._revoked = {event.name for event in truth.of(places, "revoked") if event.kind == "key"}
        own: dict[str, list[Act]] = defaultdict(list)
        below: dict[str, list[Act]] = defaultdict(list)
        for act in self.uses():
            for hop in act.chain:
                (own if hop is act.chain[-1] else below)[hop.grant].append(act)
        self._own, self._below = own, below

    def _is_need(self, act: Act) -> bool:
        """Return whether a call shows a need of its scope; under a revoked issuer key it may be a thief's."""
        return act.key not in self._revoked

    def uses(self) -> list[Act]:
        """Return the calls that used a grant: their bodies ran, and not only by monitor mode."""
        return [act for act in self.calls if act.ran and not act.drifted]

    def _calls_below(self, agent: str, tool: str) -> list[Act]:
        return [act for act in self.uses() if act.tool == tool and agent in {hop.agent for hop in act.chain[:-1]}]

    def rows(self) -> list[Row]:
        """Return a row for each agent and tool."""
        keys = {(act.agent, act.tool) for act in self.calls}
        keys |= {(grant.agent, tool) for grant in self.grants for tool in grant.tools}
        keys |= {(hop.agent, act.tool) for act in self.uses() for hop in act.chain[:-1]}
        return [self._row(*key) for key in sorted(keys)]

    def _row(self, agent: str, tool: str) -> Row:
        calls = [act for act in self.calls if (act.agent, act.tool) == (agent, tool)]
        ran, below = [act for act in calls if act.ran], self._calls_below(agent, tool)
        grants = [grant for grant in self.grants if grant.agent == agent and tool in grant.tools]
        used = [grant for grant in grants if any(map(self._is_need, self._used(self._own, grant, tool)))]
        only_below = [
            grant
            for grant in grants
            if grant not in used and any(map(self._is_need, self._used(self._below, grant, tool)))
        ]
        opened = [grant for grant in grants if not grant.tools[tool]]
        good = [act for act in (*ran, *below) if act.outcome == "success" and not act.drifted]
        refusals = Counter((act.reason, act.rule, act.argument) for act in calls if act.refused)
        seen = sorted(act.at for act in (*ran, *below) if self._is_need(act))
        issued = sorted(grant.issued * NS for grant in grants)
        registered = world.MAXIMA.get(agent)
        return {
            "agent": agent,
            "tool": tool,
            "registered": None if registered is None else tool in registered[2].tools,
            "root_grants": sum(grant.depth == 0 for grant in grants),
            "delegations": sum(grant.depth > 0 for grant in grants),
            "grants_used": len(used),
            "grants_used_by_descendants": len(only_below),
            "open_grants": len(opened),
            "calls": len(ran),
            "succeeded": sum(act.outcome == "success" and not act.drifted for act in ran),
            "calls_by_descendants": len(below),
            "calls_of_open_tool": sum(len(self._used(self._own, grant, tool)) for grant in opened),
            "warned": sum(act.effect == "warn" for act in calls),
            "would_be_refused": sum(act.drifted for act in calls),
            "revoked_calls": sum(not self._is_need(act) for act in ran),
            "revoked_calls_by_descendants": sum(not self._is_need(act) for act in below),
            "refused": sum(refusals.values()),
            "refusals": [
                {"reason": reason, "rule": rule, "argument": argument, "count": count}
                for (reason, rule, argument), count in sorted(
                    refusals.items(), key=lambda item: (-item[1], *(text or "" for text in item[0]))
                )
            ],
            "first_granted_ns": str(issued[0] if issued else 0),
            "last_granted_ns": str(issued[-1] if issued else 0),
            "first_used_ns": str(seen[0] if seen else 0),
            "last_used_ns": str(seen[-1] if seen else 0),
            "principals": len({act.principal.id for act in ran if act.principal}),
            "records": sorted(act.at for act in good if self._is_need(act))[:3],
            "proof": "proved",
        }

    def _used(self, by: dict[str, list[Act]], grant: Granted, tool: str) -> list[Act]:
        return [act for act in by.get(grant.hash, ()) if act.tool == tool]

    def gaps(self) -> list[Row]:
        """Return what is noteworthy."""
        found: list[tuple[int, int, str, str, str]] = []
        codes = ("beyond_maximum", "never_granted", "never_used", "used_by_descendants_only", "open_tool")
        for row in self.rows():
            grants = row["root_grants"] + row["delegations"]
            used = {
                "own": row["calls"] - row["revoked_calls"],
                "below": row["calls_by_descendants"] - row["revoked_calls_by_descendants"],
            }
            counts = {
                "beyond_maximum": grants if row["registered"] is False else 0,
                "never_granted": 0 if grants else row["refused"] + row["calls"],
                "never_used": 0 if any(used.values()) else grants,
                "used_by_descendants_only": grants if not used["own"] and used["below"] else 0,
                "open_tool": row["open_grants"],
            }
            found += [(codes.index(code), -n, row["agent"], row["tool"], code) for code, n in counts.items() if n]
        return [{"code": code, "agent": agent, "tool": tool, "count": -n} for _, n, agent, tool, code in sorted(found)]

    def suggestions(self) -> list[Row]:
        """Return the smallest scope that would have sufficed for each agent, and what it would have refused."""
        agents: dict[str, list[Row]] = defaultdict(list)
        for row in self.rows():
            if row["root_grants"] + row["delegations"]:
                agents[row["agent"]].append(row)
        return [self._suggestion(agent, rows) for agent, rows in sorted(agents.items())]

    def _suggestion(self, agent: str, rows: Sequence[Row]) -> Row:
        grants = max(row["root_grants"] + row["delegations"] for row in rows)
        covered = max(self.last - int(row["first_granted_ns"]) for row in rows)
        judged = covered >= 7 * DAY
        high = grants >= 30 and covered >= 30 * DAY
        tools = [self._tool(agent, row, judged=judged) for row in rows]
        dropped = [row for row, tool in zip(rows, tools, strict=True) if tool["change"] == "drop"]
        ran = [
            sorted(act.at for act in self.calls if act.ran and (act.agent, act.tool) == (agent, row["tool"]))[:3]
            for row in dropped
        ]
        return {
            "agent": agent,
            "confidence": "not judged" if not judged else "high" if high else "medium" if grants >= 10 else "low",
            "grants": grants,
            "days": covered // DAY,
            "tools": tools,
            "would_refuse": sum(row["calls"] + row["calls_by_descendants"] for row in dropped),
            "refused_records": [at for times in ran for at in times],
            "proof": "proved",
        }

    def _tool(self, agent: str, row: Row, *, judged: bool) -> Row:
        tool, grants = row["tool"], [one for one in self.grants if one.agent == agent and row["tool"] in one.tools]
        used = row["grants_used"] + row["grants_used_by_descendants"]
        mine = [act for act in self.uses() if (act.agent, act.tool) == (agent, tool)]
        uses = [act for act in (*mine, *self._calls_below(agent, tool)) if self._is_need(act)]
        good = sum(act.outcome == "success" for act in uses)
        young = self.last - int(row["first_granted_ns"]) < 7 * DAY
        if not judged or young:
            kept, why = True, "granted for less than 7 days" if judged else "the evidence covers less than 7 days"
        elif good:
            kept, why = True, "used" if row["calls"] > row["revoked_calls"] else "used by descendants"
        else:
            kept, why = False, "never used successfully" if used else "never used"
        constraints = [one.tools[tool] for one in grants]
        return {
            "tool": tool,
            "change": "keep" if kept else "drop",
            "why": why,
            "grants": len(grants),
            "used": used,
            "calls": good,
            "last_used_ns": row["last_used_ns"],
            "constraints": constraints[0] if all(one == constraints[0] for one in constraints) else None,
            "records": row["records"],
        }

    def versions(self) -> list[Row]:
        """Return what a version of an agent does that the one before did not."""
        seen: dict[str, dict[str, tuple[int, set[str]]]] = defaultdict(dict)
        for act in self.uses():
            version = act.chain[-1].version
            if version is not None:
                _, tools = seen[act.agent].setdefault(version, (act.at, set()))
                tools.add(act.tool)
        return [
            {
                "agent": agent,
                "version": version,
                "before": before,
                "since_ns": str(since),
                "added": sorted(new - old),
                "gone": sorted(old - new),
            }
            for agent, versions in sorted(seen.items())
            for (before, (_, old)), (version, (since, new)) in pairwise(
                sorted(versions.items(), key=lambda one: one[1][0])
            )
        ]

    def firsts(self, since: int = 0) -> list[Row]:
        """Return what was first seen together from a time on."""
        seen: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for act in self.uses():
            for key in _together(act):
                seen[key].append(act.at)
        for grant in self.grants:
            if grant.depth:
                seen["delegates to", grant.chain[-2].agent, grant.agent].append(grant.issued * NS)
        return sorted(
            (
                {
                    "relation": relation,
                    "agent": agent,
                    "other": other,
                    "since_ns": str(min(times)),
                    "count": len(times),
                    "record": min(times),
                    "proof": "proved",
                }
                for (relation, agent, other), times in seen.items()
                if min(times) >= since
            ),
            key=lambda row: (-int(row["since_ns"]), row["relation"], row["agent"], row["other"]),
        )

    def rates(self) -> list[Row]:
        """Return the hours far above the same hour of the weeks before."""
        counts: dict[tuple[str, str, str], Counter[int]] = defaultdict(Counter)
        for act in self.calls:
            if act.ran or act.refused:
                counts[act.agent, act.tool, "calls" if act.ran else "refusals"][act.at // _HOUR] += 1
        first = min(min(hours) for hours in counts.values())
        found = []
        for (agent, tool, what), hours in sorted(counts.items()):
            for at, count in sorted(hours.items()):
                before = [hours[at - 168 * back] for back in range(1, 9) if at - 168 * back >= first]
                if len(before) < 4:
                    continue
                median = sorted(before)[(len(before) - 1) // 2]
                if count > 3 * median and count > median + 10:
                    named = {"agent": agent, "tool": tool, "what": what, "at_ns": str(at * _HOUR), "count": count}
                    found.append({**named, "median": median, "weeks": len(before), "proof": "proved"})
        return found


def _together(act: Act) -> Iterator[tuple[str, str, str]]:
    yield "calls", act.agent, act.tool
    yield "active at", act.agent, hour(act.at)
    if act.server is not None:
        yield "uses server", act.agent, act.server
    if act.principal is not None:
        yield "acts for", act.agent, act.principal.id
    if act.arguments:
        yield "passes", act.agent, f"{act.tool}({', '.join(act.arguments)})"
    for touch in act.touches:
        yield ACCESS[touch.access], act.agent, f"{touch.system} {touch.name}"


# Questions 12 and 13, and report data.


def data(truth: Truth, places: Iterable[str], resource: str | None = None) -> Row:
    """Return which data agents touched, and which calls touched one resource."""
    calls = truth.calls(places)
    rows: dict[tuple[str, str, str, str], list[tuple[Act, Any]]] = defaultdict(list)
    for act in calls:
        for touch in act.touches:
            rows[act.agent, touch.system, touch.name, touch.access].append((act, touch))
    silent = Counter(act.tool for act in calls if act.ran and not act.touches)
    return {
        "calls": sum(act.ran for act in calls),
        "declaring": sum(act.ran and bool(act.touches) for act in calls),
        "rows": sorted((_touched_row(key, found) for key, found in rows.items()), key=_row_key),
        "silent": [
            {"tool": tool, "calls": count} for tool, count in sorted(silent.items(), key=lambda one: (-one[1], one[0]))
        ],
        "resource": resource,
        "touched": [
            {
                "at_ns": str(act.at),
                "record": act.at,
                "agent": act.agent,
                "principal": act.principal.id if act.principal else "",
                "tool": act.tool,
                "access": touch.access,
                "outcome": act.outcome,
                "system": touch.system,
                "name": touch.name,
                "basis": "declared",
                "proof": "proved",
            }
            for act in calls
            for touch in act.touches
            if resource in (touch.name, f"{touch.system} {touch.name}")
        ],
        "omitted": 0,
        "hints": [],
    }


def _row_key(row: Row) -> tuple[str, ...]:
    return row["agent"], row["system"], row["name"], row["access"]


def _touched_row(key: tuple[str, str, str, str], found: Sequence[tuple[Act, Any]]) -> Row:
    agent, system, name, access = key
    ran = [(act, touch) for act, touch in found if act.ran]
    return {
        "agent": agent,
        "system": system,
        "name": name,
        "access": access,
        "basis": "declared",
        "labels": sorted({label for _, touch in found for label in touch.labels}),
        "calls": len(ran),
        "refused": sum(act.refused for act, _ in found),
        "resources": len({touch.filled for _, touch in ran if touch.filled}),
        "tools": sorted({act.tool for act, _ in found}),
        "principals": sorted({act.principal.id for act, _ in found if act.principal}),
        "first_ns": str(ran[0][0].at if ran else 0),
        "last_ns": str(ran[-1][0].at if ran else 0),
        "record": ran[0][0].at if ran else "",
        "proof": "proved",
    }


# Questions 5 to 7, 14 to 18, and report incident.


class Incident:
    """What concerns something that a responder knows.

    Args:
        truth: What happened.
        places: Where.
        of_act: Tells which calls it concerns.
        of_grant: Tells which grants it concerns.
        of_event: Tells which begins and ends of tasks, questions and answers it concerns.
    """

    def __init__(
        self,
        truth: Truth,
        places: Iterable[str],
        of_act: Callable[[Act], bool] = lambda act: True,
        of_grant: Callable[[Granted], bool] = lambda grant: True,
        of_event: Callable[[Event], bool] = lambda event: True,
    ) -> None:
        self.truth, self.places = truth, tuple(places)
        self.acts = [act for act in truth.judged(places) if of_act(act)]
        self.grants = [grant for grant in truth.granted(places) if of_grant(grant)]
        asked = truth.of(places, "begun", "ended", "pending", "approved", "rejected")
        self.events = [event for event in asked if of_event(event)]

    def timeline(self) -> list[Row]:
        """Return the entries, by time."""
        entries = [
            *(_entry(act.at, "call", act.task, act.principal, _agents(act), *_what(act)) for act in self.acts),
            *(
                _entry(one.noted, "grant", one.task, one.principal, _agents(one), ", ".join(sorted(one.tools)))
                for one in self.grants
            ),
            *(self._told(event) for event in self.events),
        ]
        times = [int(entry["at_ns"]) for entry in entries]
        around = [
            _entry(
                event.at,
                "policy" if event.what == "policy" else "revocation",
                None,
                None,
                [],
                event.name if event.what == "policy" else f"{event.kind} {event.name}",
                "" if event.what == "policy" else event.what,
                event.reason or "",
            )
            for event in self.truth.of(self.places, "policy", "revoked", "suspended", "reinstated")
            if times and min(times) <= event.at and (event.at <= max(times) or event.what != "policy")
        ]
        return sorted([*entries, *around], key=_entry_key)

    def _told(self, event: Event) -> Row:
        agents = _agents(event)
        if event.what in ("begun", "ended"):
            return _entry(event.at, event.what, event.task, event.principal, agents, event.name)
        why = "" if event.by is None else f"by {event.by}"
        return _entry(event.at, "approval", event.task, event.principal, agents, event.name, event.what, why)

    def numbers(self) -> Row:
        """Return the numbers of the first line."""
        times = [int(one["at_ns"]) for one in self.timeline() if one["kind"] not in ("policy", "revocation")]
        return {
            "calls": sum(not act.opening for act in self.acts),
            "first_ns": str(min(times, default=0)),
            "last_ns": str(max(times, default=0)),
        }

    def authority(self) -> list[Row]:
        """Return the authority at each hop, ancestors included."""
        every = {grant.hash: grant for grant in self.truth.grants if grant.place in self.places}
        chosen = {grant.hash: grant for grant in self.grants}
        for grant in self.grants:
            chosen.update((hop.grant, every[hop.grant]) for hop in grant.chain)
        rows = [
            self._hop(grant, every.get(grant.parent or ""), selected=grant in self.grants) for grant in chosen.values()
        ]
        return sorted(rows, key=lambda row: (row["task"], row["depth"], int(row["issued_ns"]), row["grant"]))

    def _hop(self, grant: Granted, parent: Granted | None, *, selected: bool) -> Row:
        under = [act for act in self.acts if act.chain and act.chain[-1].grant == grant.hash]
        above = {} if parent is None else parent.tools
        return {
            "grant": grant.hash,
            "parent": grant.parent,
            "task": grant.task,
            "principal": grant.principal.id,
            "agent": grant.agent,
            "owner": grant.chain[-1].owner,
            "depth": grant.depth,
            "key": grant.key,
            "issued_ns": str(grant.issued * NS),
            "expires_ns": str(grant.expires * NS),
            "tools": grant.tools,
            "noted_ns": str(grant.noted),
            "lost": sorted(above.keys() - grant.tools.keys()),
            "narrowed": sorted(tool for tool, said in grant.tools.items() if tool in above and said != above[tool]),
            "calls": dict(sorted(Counter(act.tool for act in under if act.ran).items())),
            "refused": sum(act.refused for act in under),
            "selected": selected,
        }

    def tools(self) -> list[Row]:
        """Return what could be done, and what was."""
        names = {tool for grant in self.grants for tool in grant.tools} | {
            act.tool for act in self.acts if not act.opening
        }
        return [self._reach(name) for name in sorted(names)]

    def _reach(self, tool: str) -> Row:
        grants = [grant for grant in self.grants if tool in grant.tools]
        acts = [act for act in self.acts if act.tool == tool and not act.opening]
        return {
            "tool": tool,
            "grants": len(grants),
            "open_grants": sum(not grant.tools[tool] for grant in grants),
            "until_ns": str(max((grant.expires * NS for grant in grants), default=0)),
            "calls": sum(act.ran for act in acts),
            "succeeded": sum(act.outcome == "success" for act in acts),
            "refused": sum(act.refused for act in acts),
        }

    def reached(self) -> list[Row]:
        """Return who and what was reached."""
        found: dict[tuple[str, str], list[int]] = defaultdict(list)
        for act in self.acts:
            for key in _reached(act) if act.ran else ():
                found[key].append(act.at)
        return [
            {
                "kind": kind,
                "name": name,
                "count": len(times),
                "first_ns": str(times[0]),
                "last_ns": str(times[-1]),
                "record": times[0],
            }
            for (kind, name), times in sorted(found.items())
        ]

    def open_calls(self) -> list[Row]:
        """Return the calls that never ended."""
        return [
            {"at_ns": str(act.at), "record": act.at, "task": act.task, "agent": act.agent or None, "tool": act.tool}
            for act in self.acts
            if act.outcome == "unknown"
        ]

    def revocations(self) -> list[Row]:
        """Return the revocations that concern it, and what came before and after them."""
        changes = self.truth.of(self.places, "revoked", "suspended", "reinstated")
        rows = []
        for number, event in enumerate(changes):
            if event.what == "reinstated":
                continue
            named = (event.kind, event.name)
            lifted = next(
                (one.at for one in changes[number:] if one.what == "reinstated" and (one.kind, one.name) == named), None
            )
            acts = [act for act in self.acts if _stopped(act, event)]
            ran = [act for act in acts if act.ran]
            after = [act for act in acts if event.at < act.at and (lifted is None or act.at < lifted)]
            before = [act for act in ran if act.at <= event.at]
            late = [act for act in after if act.ran]
            refused = sum(act.refused for act in after)
            if before or late or refused:
                rows.append(
                    {
                        "kind": event.kind,
                        "name": event.name,
                        "status": event.what,
                        "at_ns": str(event.at),
                        "lifted_ns": None if lifted is None else str(lifted),
                        "record": event.at,
                        "before": len(before),
                        "after": len(late),
                        "refused": refused,
                        "last_ns": str(max((act.at for act in late), default=0)),
                        "since_first_ns": str(event.at - before[0].at) if before else None,
                        "records": sorted(act.at for act in late)[:10],
                    }
                )
        return rows

    def definitions(self) -> list[Row]:
        """Return the changed definitions of tools, who accepted them, and the calls in between."""
        found = self.truth.of(self.places, "changed", "accepted")
        rows = []
        for event in (one for one in found if one.what == "changed"):
            end = next((one for one in found if one.what == "accepted" and one.at > event.at), None)
            assert end is not None
            acts = [act for act in self.acts if (act.server, act.tool) == (event.kind, f"{event.kind}/{event.name}")]
            between = [act for act in acts if event.at <= act.at < end.at]
            rows.append(
                {
                    "at_ns": str(event.at),
                    "tool": f"{event.kind}/{event.name}",
                    "before": event.before,
                    "after": event.after,
                    "record": event.at,
                    "status": "accepted",
                    "settled_ns": str(end.at),
                    "settled_by": end.at,
                    "reason": end.reason,
                    "calls": sum(act.ran for act in between),
                    "refused": sum(act.refused for act in between),
                    "records": [act.at for act in between][:10],
                }
            )
        return rows

    def open_tasks(self) -> list[str]:
        """Return the tasks that began, did not end, and whose authority had not expired at the end."""
        ended = {event.task for event in self.events if event.what == "ended" and len(event.chain) == 1}
        begun = {event.task for event in self.events if event.what == "begun" and len(event.chain) == 1}
        last = max(act.at for act in self.truth.judged(self.places))
        live = {grant.task for grant in self.truth.grants if grant.depth == 0 and grant.expires * NS > last}
        return sorted((begun - ended) & live)


def _agents(of: Act | Granted | Event) -> list[str]:
    return [hop.agent for hop in of.chain]


def _entry(
    at: int, kind: str, task: str | None, party: Any, agents: list[str], what: str, outcome: str = "", why: str = ""
) -> Row:
    return {
        "at_ns": str(at),
        "kind": kind,
        "task": task or "",
        "principal": party.id if party else "",
        "agents": agents,
        "what": what,
        "outcome": outcome,
        "why": why,
    }


def _entry_key(entry: Row) -> tuple[Any, ...]:
    return int(entry["at_ns"]), entry["kind"], entry["task"], entry["agents"], entry["what"], entry["outcome"]


def _what(act: Act) -> tuple[str, str, str]:
    why = [
        act.error if act.outcome == "error" else None,
        act.reason,
        f"rule {act.rule}" if act.rule else None,
        f"argument {act.argument}" if act.argument else None,
        f"approved by {act.approver}" if act.approver else None,
        "let through by monitor mode only" if act.drifted else None,
    ]
    opened = act.opened is not None and act.tool == "invoke_agent"
    what = f"{act.tool} {act.opened.agent}" if opened and act.opened else act.tool
    return what, act.outcome, ", ".join(filter(None, why))


def _reached(act: Act) -> Iterator[tuple[str, str]]:
    if act.task is not None:
        yield "task", act.task
    if act.principal is not None:
        yield "principal", act.principal.id
    yield from (("agent", agent) for agent in dict.fromkeys(_agents(act)))
    yield "tool", act.tool
    if act.server is not None:
        yield "server", act.server
    yield from (("resource", f"{touch.access} {touch.system} {touch.name}") for touch in act.touches)


def _stopped(act: Act, event: Event) -> bool:
    if event.kind == "human":
        return act.human and act.principal is not None and act.principal.id == event.name
    if event.kind == "agent":
        return event.name in _agents(act)
    return event.kind == "key" and act.key == event.name


# Questions 1 to 4, and report inventory.


class Item:
    """An agent, principal, tool, server, model or resource while it is counted."""

    def __init__(self) -> None:
        self.times: list[int] = []
        self.traced: list[int] = []
        self.calls = self.refused = self.spans = 0
        self.owners: set[str] = set()
        self.versions: set[str] = set()
        self.statuses: set[str] = set()
        self.details: dict[str, set[str]] = defaultdict(set)


Key = tuple[str, str | None, str]
KINDS: Final = ("agent", "principal", "tool", "server", "model", "data")
TRANSPORT, SDK = "other", "1"


class Inventory:
    """Who and what exists.

    Args:
        truth: What happened.
        places: Where.
        registered: What the registry of agents says last of each agent: its status.
        traces: Whether the spans of other libraries are read as well.
    """

    def __init__(
        self, truth: Truth, places: Iterable[str], registered: dict[str, str] | None = None, *, traces: bool = False
    ) -> None:
        self.found: dict[Key, Item] = defaultdict(Item)
        for act in truth.judged(places):
            self._act(act)
        for grant in truth.granted(places):
            self._agent(grant.chain[-1], grant.service, grant.issued * NS)
        for event in truth.of(places, "begun", "ended", "approved", "rejected"):
            self._event(event)
        for name, status in (registered or {}).items():
            self._registration(name, status)
        if registered is not None:
            self._pins(truth, places)
        for span in truth.traced if traces else ():
            self._span(span)
        if traces:
            self._shadow(truth)
        self._fold()

    def _agent(self, hop: Any, service: str | None, at: int) -> Item:
        item = self.found["agent", service, hop.agent]
        item.times.append(at)
        item.statuses.add("observed")
        item.owners.add(hop.owner)
        item.versions |= {hop.version} - {None}
        return item

    def _principal(self, party: Any, service: str | None, at: int, role: str | None = None) -> Item:
        item = self.found["principal", service, party.id]
        item.times.append(at)
        item.statuses.add("observed")
        item.details["kind"].add(party.kind)
        item.details["identity"].add(party.provenance)
        item.details["issuer"] |= {party.issuer} - {None}
        item.details["role"] |= {role} - {None}
        return item

    def _thing(self, kind: str, service: str | None, name: str, at: int) -> Item:
        item = self.found[kind, service, name]
        item.times.append(at)
        item.statuses.add("observed")
        return item

    def _act(self, act: Act) -> None:
        items = []
        if act.opened is not None and act.tool == "invoke_agent":
            self._agent(act.opened, act.service, act.at).refused += act.refused
        if act.chain:
            items.append(self._agent(act.chain[-1], act.service, act.at))
        if act.principal is not None:
            items.append(self._principal(act.principal, act.service, act.at))
        if act.opening:
            return
        tool = self._thing("tool", act.service, act.tool, act.at)
        tool.details["type"].add(act.kind or "")
        tool.details["label"] |= set(world.PLACES[act.place].tools[act.tool].labels or ())
        items.append(tool)
        if act.server is not None:
            tool.details["server"].add(act.server)
            items.append(self._thing("server", act.service, act.server, act.at))
        for touch in act.touches:
            resource = self._thing("data", act.service, f"{touch.system} {touch.name}", act.at)
            resource.details["access"].add(touch.access)
            items.append(resource)
        for item in items:
            item.calls += 1
            item.refused += act.refused

    def _event(self, event: Event) -> None:
        if event.what in ("approved", "rejected"):
            self._principal(world.APPROVERS[event.by or ""], event.service, event.at, "approver")
            return
        item = self._agent(event.chain[-1], event.service, event.at)
        item.details["role"].add("sub-agent" if len(event.chain) > 1 else "root agent")
        self._principal(event.principal, event.service, event.at, "principal")
        for above, below in pairwise(event.chain):
            orchestrator = self.found["agent", event.service, above.agent]
            orchestrator.times.append(event.at)
            orchestrator.details["role"].add("orchestrator")
            orchestrator.details["delegates to"].add(below.agent)

    def _registration(self, name: str, status: str) -> None:
        agent, purpose, maximum = world.MAXIMA[name]
        item = self.found["agent", None, name]
        item.statuses.add("registered")
        item.owners.add(agent.owner)
        item.details["registration"].add(status)
        item.details["registered for"].add(purpose)
        for tool in maximum.tools:
            self.found["tool", None, tool].statuses.add("registered")

    def _pins(self, truth: Truth, places: Iterable[str]) -> None:
        for server, tools in (("web", ("search", "fetch")), ("crm", ("find",))):
            item = self.found["server", None, server]
            item.statuses.add("registered")
            item.details["pin"].add("pinned")
            item.details["transport"].add("other")
            for tool in tools:
                named = self.found["tool", None, f"{server}/{tool}"]
                named.statuses.add("registered")
                named.details["pin"].add("pinned")
                named.details["server"].add(server)
        for event in truth.of(places, "changed"):
            self.found["server", None, event.kind].details["changed tool"].add(f"{event.kind}/{event.name}")

    def _span(self, span: Any) -> None:
        served = {spec.name.partition("/")[2]: spec.name for spec in world.FINANCE_TOOLS.values() if spec.server}
        item = self.found["tool", span.service, served.get(span.tool, span.tool)]
        item.statuses.add("traced")
        item.traced.append(span.at)
        item.spans += 1

    def _shadow(self, truth: Truth) -> None:
        for at in truth.facts["shadow"]:
            for kind, name in (("agent", "shadow"), ("model", "gpt-shadow")):
                item = self.found[kind, "finance", name]
                item.statuses.add("traced")
                item.traced.append(at)
                item.spans += 1

    def _fold(self) -> None:
        """Put what is named without a service to the one service that names it."""
        services: dict[tuple[str, str], list[str]] = defaultdict(list)
        for kind, service, name in self.found:
            if service is not None:
                services[kind, name].append(service)
        for (kind, name), named in services.items():
            if len(named) == 1 and (kind, None, name) in self.found:
                mine, other = self.found[kind, named[0], name], self.found.pop((kind, None, name))
                mine.times += other.times
                mine.calls += other.calls
                mine.refused += other.refused
                for names in ("owners", "versions", "statuses"):
                    getattr(mine, names).update(getattr(other, names))
                for detail, values in other.details.items():
                    mine.details[detail] |= values

    def rows(self) -> list[Row]:
        """Return the items."""
        keys = sorted(self.found, key=lambda key: (KINDS.index(key[0]), key[2], key[1] or ""))
        return [self._row(key, self.found[key]) for key in keys]

    def _row(self, key: Key, item: Item) -> Row:
        kind, service, name = key
        times = item.times or item.traced
        statuses = [status for status in ("registered", "observed", "traced") if status in item.statuses]
        return {
            "kind": kind,
            "service": service,
            "name": name,
            "statuses": statuses,
            "proof": "hint" if statuses == ["traced"] else "proved",
            "owners": sorted(item.owners),
            "versions": sorted(item.versions),
            "first_ns": str(min(times, default=0)),
            "last_ns": str(max(times, default=0)),
            "calls": item.calls,
            "refused": item.refused,
            "spans": item.spans,
            "details": {name: sorted(values) for name, values in sorted(item.details.items()) if values},
        }

    def differences(self, since: int | None = None) -> dict[str, list[tuple[str, str | None, str]]]:
        """Return what is noteworthy, by code."""
        rows = self.rows()
        observed = {(row["kind"], row["name"]) for row in rows if "observed" in row["statuses"]}
        working = observed | {(row["kind"], row["name"]) for row in rows if "traced" in row["statuses"]}
        registered = {(row["kind"], row["name"]) for row in rows if "registered" in row["statuses"]}
        found: dict[str, list[tuple[str, str | None, str]]] = defaultdict(list)
        for row in rows:
            kind, named, statuses = row["kind"], (row["kind"], row["name"]), row["statuses"]
            key = (kind, row["service"], row["name"])
            tests = {
                "traced_not_guarded": kind in ("agent", "tool", "server") and statuses == ["traced"],
                "observed_not_registered": kind in ("agent", "server")
                and "observed" in statuses
                and named not in registered,
                "registered_idle": kind in ("agent", "server") and "registered" in statuses and named not in working,
                "no_owner": kind == "agent" and not row["owners"],
                "new": since is not None and int(row["first_ns"]) >= (since or 0) > 0,
                "gone": since is not None and int(row["first_ns"]) > 0 and int(row["last_ns"]) < (since or 0),
            }
            for code, holds in tests.items():
                if holds:
                    found[code].append(key)
        return dict(found)


# Question 20, and report controls.


def signals(truth: Truth, places: Sequence[str], *, traces: bool) -> dict[str, int]:
    """Return how often each thing happened that a clause may ask for."""
    calls, grants = truth.calls(places), truth.granted(places)
    ended = truth.of(places, "ended")
    pairs = {(grant.agent, tool) for grant in grants for tool in grant.tools}
    used = {(hop.agent, act.tool) for act in calls if act.ran for hop in act.chain}
    people = [act for act in calls if act.principal is not None and act.principal.kind == "human"]
    agents = {act.agent for act in calls if act.agent}
    answers = truth.of(places, "approved", "rejected")
    people_said = [event for event in answers if _is_verified(event.by)]
    streams = truth.of(places, "opened")
    return {
        "recorded_calls": len(calls),
        "closed_calls": sum(act.outcome != "unknown" for act in calls),
        "open_calls": sum(act.outcome == "unknown" for act in calls),
        "traced_only_calls": sum(one.act is None and not one.copies for one in truth.traced) if traces else 0,
        "linked_calls": sum(act.place == "finance" for act in calls),
        "unlinked_calls": sum(act.place != "finance" for act in calls),
        "notable_calls": sum(_notable(act) for act in calls),
        "attributed_calls": sum(act.principal is not None for act in calls),
        "unattributed_calls": sum(act.principal is None and not act.refused for act in calls),
        "verified_calls": sum(act.principal.provenance == "verified" for act in people if act.principal),
        "asserted_calls": sum(act.principal.provenance != "verified" for act in people if act.principal),
        "service_calls": sum(act.principal is not None and act.principal.kind == "service" for act in calls),
        "delegated_calls": sum(len(act.chain) > 1 for act in calls),
        "bounded_grants": len(grants),
        "long_grants": sum(grant.expires - grant.issued > 86_400 for grant in grants),
        "open_grants": sum(not arguments for grant in grants for arguments in grant.tools.values()),
        "delegations": sum(grant.depth > 0 for grant in grants),
        "used_tools": len(pairs & used),
        "unused_tools": len(pairs - used),
        "ended_tasks": len(ended),
        "refused_calls": sum(act.refused for act in calls),
        "argument_refusals": sum(act.refused and act.reason == "argument_out_of_scope" for act in calls),
        "limit_refusals": 0,
        "revoked_refusals": sum(act.refused and act.reason in ("revoked", "suspended") for act in calls),
        "monitored_calls": sum(act.drifted for act in calls),
        "finding_calls": sum(bool(act.findings) for act in calls),
        "approved_calls": sum(_is_verified(act.approver) and act.ran for act in calls),
        "asserted_approvals": sum(
            act.approver is not None and not _is_verified(act.approver) and act.ran for act in calls
        ),
        "self_approved_calls": 0,
        "owner_approved_calls": 0,
        "rejections": sum(event.what == "rejected" for event in people_said),
        "human_decisions": len(people_said),
        "asserted_decisions": len(answers) - len(people_said),
        "revocations": len(truth.of(places, "revoked", "suspended")),
        "calls_after_revocation": 0,
        "examinations": 0,
        "undated_examinations": 0,
        "agents": len(agents),
        "shared_agents": 0,
        "registered_agents": len(world.MAXIMA),
        "unregistered_agents": len(agents - world.MAXIMA.keys()),
        "retired_agents": 1,
        "agents_after_their_end": 0,
        "pinned_servers": 2,
        "unpinned_tools": 0,
        "resource_calls": sum(bool(act.touches) for act in calls),
        "undeclared_calls": sum(act.ran and not act.touches for act in calls),
        "placed_streams": 0,
        "unplaced_streams": len(streams),
        "witnessed_sources": 0,
        "unwitnessed_sources": len(places),
        "pruned_records": 0,
    }


def _is_verified(approver: str | None) -> bool:
    """Return whether an identity provider vouches for who approved; by a program's word, nobody does."""
    return approver is not None and world.APPROVERS[approver].provenance == "verified"


def _notable(act: Act) -> bool:
    notable = act.refused or act.withheld or bool(act.findings) or act.outcome == "error"
    return notable or act.effect == "warn" or act.drifted
