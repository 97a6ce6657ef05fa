"""Style and script of every page, and the content security policy that admits these two alone."""

import base64
import hashlib
from typing import Final

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
