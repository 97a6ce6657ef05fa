"""The document around every page: style, verdict, what it rests on, content, and what is not shown."""

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from agent_identity._reports.answers.report_frame import Frame, SourceFrame
from agent_identity._reports.pages._layout import (
    Body,
    badge,
    code,
    definitions,
    figures,
    listed,
    spaced,
    table,
)
from agent_identity._reports.pages._markup import Content, Markup, element, joined, names, text
from agent_identity._reports.pages.words import VERDICTS, moment, span_of
from agent_identity._verify.report.report import Report

_LIGHT: Final = (
    "--bg:#fff;--panel:#f5f6f8;--line:#d3d8de;--text:#1a1d21;--muted:#545b64;--accent:#0b57a4;--good:#12602f;"
    "--good-bg:#e2f5e8;--warn:#6b4900;--warn-bg:#fff2cc;--bad:#9b1c1c;--bad-bg:#fde8e8;--note:#3d4c63;"
    "--note-bg:#e8edf5"
)
_DARK: Final = (
    "--bg:#11151a;--panel:#1a2027;--line:#38414c;--text:#e4e8ec;--muted:#a3adb8;--accent:#7cb7f5;--good:#7fdca0;"
    "--good-bg:#12321f;--warn:#f2cc60;--warn-bg:#382c08;--bad:#ffa198;--bad-bg:#451a1a;--note:#b4c6e0;"
    "--note-bg:#1f2a3a"
)

STYLE: Final = f"""
:root{{color-scheme:light dark;{_LIGHT}}}
@media (prefers-color-scheme:dark){{:root{{{_DARK}}}}}
@media print{{:root{{color-scheme:light;{_LIGHT}}}}}
*{{box-sizing:border-box}}
html{{scroll-padding-top:4rem}}
body{{margin:0;background:var(--bg);color:var(--text);font:15px/1.5 system-ui,"Segoe UI",Roboto,sans-serif}}
header,nav,main,footer{{max-width:80rem;margin:0 auto;padding:0 1.25rem}}
header{{padding-top:1.25rem}}
h1{{font-size:1.7rem;line-height:1.2;margin:0 0 .35rem;overflow-wrap:anywhere}}
h2{{font-size:1.2rem;margin:2.2rem 0 .6rem;padding-top:.9rem;border-top:1px solid var(--line)}}
h3{{font-size:1rem;margin:1.3rem 0 .4rem;overflow-wrap:anywhere}}
p{{margin:.4rem 0;overflow-wrap:anywhere}}
a{{color:var(--accent)}}
code{{font:.88em ui-monospace,"Cascadia Mono",Menlo,Consolas,monospace;overflow-wrap:anywhere}}
:focus-visible{{outline:3px solid var(--accent);outline-offset:2px}}
.skip{{position:absolute;left:-99rem}}
.skip:focus{{left:1rem;top:1rem;background:var(--bg);padding:.5rem;z-index:9}}
.headline{{font-size:1.15rem;margin:0 0 .5rem}}
.verdict{{padding:.55rem 1.25rem;border-bottom:2px solid currentColor}}
.verdict p{{max-width:77.5rem;margin:0 auto}}
.verdict strong{{letter-spacing:.02em;margin-right:.5rem}}
.verdict.loud{{position:sticky;top:0;z-index:5}}
.good{{color:var(--good);background:var(--good-bg)}}
.warn{{color:var(--warn);background:var(--warn-bg)}}
.bad{{color:var(--bad);background:var(--bad-bg)}}
.note{{color:var(--note);background:var(--note-bg)}}
.badge{{display:inline-block;padding:0 .45rem;border-radius:.3rem;font-size:.86em;font-weight:600;white-space:nowrap}}
.figures{{display:flex;flex-wrap:wrap;gap:.7rem;margin:1rem 0}}
.figures div{{background:var(--panel);border:1px solid var(--line);border-radius:.5rem;padding:.5rem .9rem;
min-width:8rem;display:flex;flex-direction:column-reverse;justify-content:flex-end}}
.figures dt{{color:var(--muted);font-size:.85rem}}
.figures dd{{margin:0;font-size:1.45rem;font-weight:650;font-variant-numeric:tabular-nums}}
.figures .badge{{font-size:1rem}}
.about{{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.2rem 1rem;margin:1rem 0;
padding:.8rem 1rem;background:var(--panel);border:1px solid var(--line);border-radius:.5rem;font-size:.92rem}}
.about dt{{color:var(--muted)}}
.about dd{{margin:0;overflow-wrap:anywhere}}
nav ul{{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;list-style:none;margin:.6rem 0 0;padding:0}}
nav a{{display:inline-block;padding:.15rem 0}}
.findings{{list-style:none;margin:.5rem 0;padding:0}}
.findings li{{margin:.4rem 0;overflow-wrap:anywhere}}
.scroll{{overflow-x:auto;margin:.4rem 0;max-width:100%}}
.picture{{max-height:40rem;overflow:auto;border:1px solid var(--line);border-radius:.5rem;padding:.5rem}}
table{{border-collapse:collapse;width:max-content;max-width:100%;min-width:min(100%,34rem);font-size:.88rem}}
tbody th .t{{font-weight:400}}
.sub{{display:block;color:var(--muted);font-weight:400}}
caption{{text-align:left;color:var(--muted);padding:.2rem 0;font-size:.88rem}}
th,td{{text-align:left;vertical-align:top;padding:.3rem .5rem;border-bottom:1px solid var(--line);min-width:3.4rem;
max-width:19rem;overflow-wrap:break-word;unicode-bidi:isolate}}
thead th.n{{white-space:normal}}
thead th{{background:var(--panel);font-size:.82rem;vertical-align:bottom;overflow-wrap:normal;max-width:6.5rem}}
tbody th{{font-weight:600}}
.n{{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}}
.t{{white-space:nowrap;font-variant-numeric:tabular-nums}}
.more{{color:var(--muted);font-size:.9rem}}
details{{margin:.4rem 0}}
summary{{cursor:pointer;padding:.3rem 0}}
.task{{border:1px solid var(--line);border-radius:.5rem;padding:.2rem .9rem;margin:.6rem 0}}
.filter{{display:flex;flex-wrap:wrap;gap:.5rem;align-items:center;font-size:.9rem;margin:.3rem 0}}
.filter input{{font:inherit;padding:.25rem .5rem;border:1px solid var(--muted);border-radius:.3rem;
background:var(--bg);color:var(--text);max-width:100%}}
.origin{{color:var(--muted);font-size:.88rem;margin:0 0 .4rem}}
.m{{color:var(--muted)}}
.r{{color:inherit;text-decoration-color:var(--line)}}
.paper{{display:none}}
tr.denied{{background:var(--bad-bg)}}
:target{{outline:3px solid var(--accent);outline-offset:-2px}}
.steps{{list-style:none;margin:.5rem 0;padding:0 0 0 .9rem;border-left:3px solid var(--line)}}
.steps li{{position:relative;padding:.22rem .5rem;background:none;color:var(--text);overflow-wrap:anywhere}}
.steps li::before{{content:"";position:absolute;left:-1.32rem;top:.6rem;width:.7rem;height:.7rem;border-radius:50%;
background:currentColor;border:2px solid var(--bg)}}
.steps li.good::before{{background:var(--good)}}
.steps li.warn::before{{background:var(--warn);border-radius:0;transform:rotate(45deg)}}
.steps li.bad{{background:var(--bad-bg)}}
.steps li.bad::before{{background:var(--bad);border-radius:0}}
.steps li.gap{{color:var(--muted);font-size:.86rem}}
.steps li.gap::before{{content:none}}
.commands{{background:var(--panel);border:1px solid var(--line);border-radius:.5rem;padding:.6rem 1rem;
margin:.4rem 0;list-style:none}}
.commands li{{margin:.25rem 0}}
figure{{margin:.6rem 0}}
figcaption{{color:var(--muted);font-size:.88rem}}
svg{{display:block;font:12px system-ui,"Segoe UI",Roboto,sans-serif}}
svg.wide{{max-width:100%;min-width:60rem;height:auto}}
svg text{{fill:var(--text);unicode-bidi:isolate}}
svg .b{{font-weight:650}}
svg .m{{fill:var(--muted)}}
svg .denied{{fill:var(--bad-bg);stroke:var(--bad);stroke-width:2}}
svg .box{{fill:var(--panel);stroke:var(--muted)}}
svg .principal{{fill:var(--note-bg);stroke:var(--note)}}
svg .tool{{fill:var(--bg);stroke:var(--accent)}}
svg .resource{{fill:var(--bg);stroke:var(--good)}}
svg .edge{{fill:none;stroke:var(--muted);stroke-width:1.4}}
svg .no{{stroke:var(--bad);stroke-width:2}}
svg .axis{{stroke:var(--line)}}
svg .f0{{fill:var(--accent);stroke:var(--accent)}}
svg .f1{{stroke:var(--accent)}}
svg .f2{{fill:var(--note-bg);stroke:var(--note)}}
svg .f3{{fill:var(--bad-bg);stroke:var(--bad);stroke-dasharray:3 2}}
svg .hatch{{stroke:var(--accent);stroke-width:2}}
svg .ok{{fill:var(--accent)}}
svg .refused{{stroke:var(--bad);stroke-width:2;fill:none}}
svg .open{{stroke:var(--warn);stroke-width:1.6;fill:var(--bg)}}
svg .change{{fill:var(--warn)}}
footer{{margin-top:2.5rem;padding-bottom:2rem;color:var(--muted);font-size:.88rem;overflow-wrap:anywhere}}
@media screen and (max-width:40rem){{
body{{font-size:14px}}
header,nav,main,footer{{padding-left:.8rem;padding-right:.8rem}}
.verdict{{padding-left:.8rem;padding-right:.8rem}}
.about{{grid-template-columns:minmax(0,1fr)}}
.about dd{{margin-bottom:.35rem}}
.figures div{{flex:1 1 7rem;min-width:7rem}}
.scroll:not(.picture){{overflow:visible}}
table,tbody,caption{{display:block;width:100%;max-width:none;min-width:0}}
thead{{position:absolute;left:-99rem}}
tr{{display:block;border:1px solid var(--line);border-radius:.5rem;padding:.35rem .6rem;margin:.45rem 0}}
th,td{{display:block;max-width:none;min-width:0;border:0;padding:.12rem 0;overflow-wrap:anywhere}}
td:empty{{display:none}}
td[data-of]::before{{content:attr(data-of) ": ";color:var(--muted);font-size:.86em}}
.n{{text-align:left}}
.t{{white-space:normal;overflow-wrap:anywhere}}
}}
@media print{{
@page{{margin:16mm 12mm 14mm}}
@page unverified{{@top-center{{content:"UNVERIFIED";font-weight:700}}}}
@page contradicted{{@top-center{{content:"NOT VERIFIED: contradicted";font-weight:700}}}}
@page cannot-tell{{@top-center{{content:"CANNOT TELL";font-weight:700}}}}
.unverified{{page:unverified}}
.cannot_tell{{page:cannot-tell}}
.contradicted{{page:contradicted}}
.unverified h2::after{{content:" (UNVERIFIED)";color:var(--bad)}}
.cannot_tell h2::after{{content:" (CANNOT TELL)";color:var(--warn)}}
.contradicted h2::after{{content:" (NOT VERIFIED)";color:var(--bad)}}
body{{font-size:10pt}}
header,nav,main,footer{{max-width:none;padding:0}}
nav,.filter,.skip{{display:none}}
.verdict,.verdict.loud{{position:static;border:2px solid;margin-bottom:4mm}}
.scroll,.picture{{overflow:visible;max-height:none;border:0;padding:0}}
table{{font-size:7.5pt}}
th,td{{min-width:0;padding:.15rem .3rem}}
thead{{display:table-header-group}}
.paper{{display:inline}}
.filter{{display:none}}
tr,figure,.figures div,.steps li{{break-inside:avoid}}
h2,h3,caption{{break-after:avoid}}
svg,svg.wide{{max-width:100%;min-width:0;max-height:200mm;height:auto}}
thead th{{max-width:none}}
}}
"""
"""The style sheet."""

SCRIPT: Final = """
"use strict";
const reveal=()=>{let one=document.getElementById(decodeURIComponent(location.hash.slice(1)));
for(const to=one;one;one=one.parentElement)if(one.tagName==="DETAILS"){one.open=true;to.scrollIntoView()}};
addEventListener("hashchange",reveal);reveal();
for(const part of document.querySelectorAll("[data-filter]")){
const rows=[...part.querySelectorAll("tbody tr")];
if(rows.length<8)continue;
const box=document.createElement("div"),label=document.createElement("label"),field=document.createElement("input"),
count=document.createElement("span");
box.className="filter";count.setAttribute("role","status");
label.textContent="Only rows on this page with ";
field.type="search";field.autocomplete="off";
label.append(field);box.append(label,count);part.prepend(box);
field.addEventListener("input",()=>{
const words=field.value.toLowerCase().split(/\\s+/).filter(Boolean);
let shown=0;
for(const row of rows){
const all=row.textContent.toLowerCase(),fits=words.every(word=>all.includes(word));
row.hidden=!fits;shown+=fits}
if(words.length)for(const one of part.querySelectorAll("details"))one.open=true;
count.textContent=words.length?`${shown} of ${rows.length}`:""})}
"""
"""Filters tables, and opens the folded part that a link leads into; a page has all its content without it."""


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


POLICY: Final = (
    f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; base-uri 'none'; form-action 'none'"
)
"""The policy: nothing is loaded, and no other style or script counts."""


Rows: TypeAlias = tuple[str, frozenset[str]]
"""The file of a page, and the ids of the rows of records in it."""

_ROW: Final = re.compile(r' id="(r-[\w-]+)"')
_LINK: Final = re.compile(r'<a class="r" href="#(r-[\w-]+)">(.*?)</a>', re.DOTALL)
_LOUD: Final = frozenset({"unverified", "contradicted", "cannot_tell"})
_FEW: Final = 3
_KEYS: Final = 8
_NOTE: Final = 2_048
_TRUST: Final = {
    "given": "given by the person who made this page",
    "self-asserted": "self-asserted: the keys came from beside the evidence, so they prove nothing by themselves",
    "none": "none",
}
_HOLDING: Final = frozenset({"verified", "incomplete"})
_OWN_KEYS: Final = "The keys came from beside the evidence: it proves nothing to those who do not trust that place."
_SOURCES: Final = (
    "Source",
    "Form",
    "Verdict",
    "Integrity",
    "Completeness",
    "Records",
    "Spans of others",
    "From and to",
    "Keys",
    "Problems",
)


def document(body: Body, *, made_ns: int | None = None, home: str | None = None, rows: Rows | None = None) -> bytes:
    """Return a page as one file of HTML.

    The same content and time make the same bytes.

    Args:
        body: Its content.
        made_ns: The time at which it was made, in nanoseconds since the Unix epoch; it is stated if it is given.
        home: The file of the index that it belongs to.
        rows: The file of another page, and the ids of the rows of records in it.
    """
    words, tone, sentence = verdict_of(body.frame)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", f"{words}: {body.title}"),
        element("style", Markup(STYLE)),
    )
    loud = " loud" if body.frame.verdict in _LOUD else ""
    banner = element(
        "div",
        element("p", element("strong", words), Markup(" "), sentence),
        class_=f"verdict {tone}{loud}",
        role="region",
        aria_label="verdict",
    )
    parts = [
        element("a", "To the content", href="#content", class_="skip"),
        banner,
        _header(body),
        _navigation(body, home),
        element("main", *_content(body, made_ns), id="content"),
        _footer(body.frame, words),
        element("script", Markup(SCRIPT)),
    ]
    body_element = element("body", *parts, class_=body.frame.verdict if loud else None)
    page = f"<!DOCTYPE html>\n{element('html', head, body_element, lang='en', dir='ltr')}\n"
    return _linked(page, rows).encode("utf-8", "backslashreplace")


def rows_of(html: bytes) -> frozenset[str]:
    """Return the ids of the rows of records in a page."""
    return frozenset(name.decode() for name in re.findall(rb' id="(r-[\w-]+)"', html))


def _linked(page: str, rows: Rows | None) -> str:
    """Return a page in which each id of a record that has a row is a link to it, and each row has its id once.

    Text from evidence cannot look like these elements: it is escaped.
    """
    seen: set[str] = set()

    def once(match: re.Match[str]) -> str:
        again = match[1] in seen
        seen.add(match[1])
        return "" if again else match[0]

    def link(match: re.Match[str]) -> str:
        if match[1] in seen:
            return match[0]
        if rows is not None and match[1] in rows[1]:
            return match[0].replace('href="#', f'href="{rows[0]}#', 1)
        return match[2]

    return _LINK.sub(link, _ROW.sub(once, page))


def verdict_of(frame: Frame) -> tuple[str, str, str]:
    """Return the words, the tone and a sentence; keys that nobody vouches for take the green away."""
    reports = [source.report for source in frame.sources if source.report is not None and not source.only_hints]
    words, tone, sentence = _judged(frame.verdict, reports)
    if frame.verdict == "verified":
        states = sorted({report.completeness_words for report in reports})
        sentence = f"{sentence} Completeness: {', '.join(states)}."
    own = frame.verdict in _HOLDING and any(report.trust != "given" for report in reports)
    return words, tone, f"{sentence} {_OWN_KEYS}" if own else sentence


def _judged(verdict: str, reports: Sequence[Report]) -> tuple[str, str, str]:
    words, tone, sentence = VERDICTS[verdict]
    if verdict in _HOLDING and any(report.trust != "given" for report in reports):
        return f"{words} under its own keys", "warn", sentence
    return words, tone, sentence


def _header(body: Body) -> Markup:
    heading = element("h1", body.title)
    return element(
        "header", heading, element("p", text(body.headline, _NOTE), class_="headline"), _origin_line(body.frame)
    )


def _origin_line(frame: Frame) -> Markup:
    """Return the provenance of the evidence in one line."""
    times = [time for source in frame.sources for time in (source.first_ns, source.last_ns) if time]
    parts: list[Content] = [_places(frame.sources)]
    parts += [f"; {span_of(min(times), max(times))} UTC"] if times else []
    parts += ["; keys ", joined((text(line, _NOTE) for line in _origins(frame.sources)), ", ")]
    return element("p", *parts, ". ", element("a", "Evidence and keys in full", href="#basis"), class_="origin")


def _navigation(body: Body, home: str | None) -> Markup:
    links = [(part.id, part.title) for part in body.sections]
    links += [("not-shown", "Not shown"), ("basis", "Evidence and keys")]
    items = [element("li", element("a", title, href=f"#{name}")) for name, title in links]
    if home is not None:
        items.insert(0, element("li", element("a", "Index", href=home)))
    return element("nav", element("ul", *items), aria_label="parts of this page")


def _content(body: Body, made_ns: int | None) -> Iterator[Markup]:
    yield figures(body.figures)
    for part in body.sections:
        yield element("section", element("h2", part.title, id=part.id), part.content, aria_labelledby=part.id)
    heading = element("h2", "Not shown", id="not-shown")
    yield element(
        "section", heading, listed(text(note, _NOTE) for note in body.frame.notes), aria_labelledby="not-shown"
    )
    yield element("section", *_basis(body, made_ns), aria_labelledby="basis")


def _basis(body: Body, made_ns: int | None) -> Iterator[Markup]:
    frame = body.frame
    yield element("h2", "Evidence and keys", id="basis")
    yield definitions(_statements(frame, made_ns))
    yield table(
        "Sources",
        _SOURCES,
        frame.sources,
        lambda source: _source(source, counts=body.counted),
        nothing="there are none",
    )


def _statements(frame: Frame, made_ns: int | None) -> Iterator[tuple[str, Content]]:
    words, tone, sentence = verdict_of(frame)
    yield "Verdict", spaced([badge(words, tone), sentence])
    yield "Sources", _places(frame.sources)
    yield "Keys", joined((text(line, _NOTE) for line in _origins(frame.sources)), "<br>")
    start = "the beginning" if frame.from_ns is None else moment(frame.from_ns)
    stop = "the end" if frame.until_ns is None else moment(frame.until_ns)
    yield "Period", f"{start} until {stop}"
    times = [time for source in frame.sources for time in (source.first_ns, source.last_ns) if time]
    yield "Evidence from", span_of(min(times, default=0), max(times, default=0)) or "no time is known"
    yield "Command", "not stated" if frame.command is None else code(frame.command)
    yield "Version", f"agent-identity {frame.version}"
    if made_ns is not None:
        yield "Made", moment(made_ns)


def _places(sources: Sequence[SourceFrame]) -> Markup:
    lines = [spaced([code(source.place), _verdict(source)]) for source in sources[:_FEW]]
    if len(sources) > _FEW:
        lines.append(text(f"and {len(sources) - _FEW:,} more, below"))
    return joined(lines, "<br>") if lines else text("none")


def _origins(sources: Sequence[SourceFrame]) -> Sequence[str]:
    """Return where keys came from, each origin once."""
    origins: dict[str, None] = {}
    for source in sources:
        if source.report is not None and not source.only_hints:
            origins[_origin(source)] = None
    if len(origins) > _FEW:
        return [*[*origins][:_FEW], f"and {len(origins) - _FEW:,} more origins, below"]
    return [*origins] or ["none: nothing was verified with keys"]


def _origin(source: SourceFrame) -> str:
    origin = f", from {source.keys_from}" if source.keys_from and source.trust == "given" else ""
    return _TRUST[source.trust] + origin


def _verdict(source: SourceFrame) -> Markup:
    if source.only_hints:
        return badge("nothing to verify: hints", "note")
    words, tone, _ = _judged(source.verdict, [] if source.report is None else [source.report])
    return badge(words, tone)


def _source(source: SourceFrame, *, counts: bool) -> Sequence[Content]:
    report = source.report
    codes = [] if report is None else [found.code for found in report.findings if found.severity != "notice"]
    return (
        code(source.place),
        source.kind,
        _verdict(source),
        "not verified" if report is None else report.integrity.replace("_", " "),
        "not verified" if report is None else report.completeness_words,
        source.records if counts else "not counted",
        source.hints if counts else "not counted",
        span_of(source.first_ns, source.last_ns) or "not known",
        _keys(source),
        names([*dict.fromkeys(codes)], 20) or "none found" if report is not None else "not looked for",
    )


def _keys(source: SourceFrame) -> Content:
    named = [(purpose, key) for purpose, keys in source.keys.items() for key in keys]
    lines: list[Content] = [_origin(source)]
    lines += [spaced([purpose, code(key)]) for purpose, key in named[:_KEYS]]
    if len(named) > _KEYS:
        lines.append(f"and {len(named) - _KEYS:,} more; --json has them")
    return joined((line if isinstance(line, Markup) else text(str(line)) for line in lines), "<br>")


def _footer(frame: Frame, words: str) -> Markup:
    command = [] if frame.command is None else [Markup(" Ask again with "), code(frame.command)]
    return element("footer", f"{words}. Made by agent-identity {frame.version}.", *command)
