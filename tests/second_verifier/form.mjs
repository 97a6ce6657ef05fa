// Canonical bytes and the forms of values, records and details (record.md; ledger.md for files of the log).
export const isObject = (v) => typeof v === "object" && v !== null && !Array.isArray(v);
export const has = (o, k) => Object.hasOwn(o, k);
export const pick = (o, ...keys) => o && Object.fromEntries(keys.filter((k) => has(o, k)).map((k) => [k, o[k]]));
export const MEMBER = 4 * 1024 * 1024; // bytes of a record, and of a line
export function canonical(v) { // RFC 8785: JSON.stringify spells scalars as it asks for
  if (Array.isArray(v)) return "[" + v.map(canonical).join(",") + "]";
  if (!isObject(v)) return JSON.stringify(v);
  return "{" + Object.keys(v).sort().map((k) => JSON.stringify(k) + ":" + canonical(v[k])).join(",") + "}";
}
export const same = (a, b) => (a === undefined || b === undefined ? a === b : canonical(a) === canonical(b));
export function utf8(bytes) { // null if the bytes are no UTF-8
  try { return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes); } catch { return null; }
}
function wellFormed(v, depth = 0) { // no lone surrogates, and no more than 1,000 containers in each other
  if (typeof v === "string") return v.isWellFormed();
  if (typeof v !== "object" || v === null) return true;
  return depth < 1000 && Object.entries(v).every(([k, x]) => k.isWellFormed() && wellFormed(x, depth + 1));
}
export function readJson(bytes) { // undefined for no JSON; of a member that occurs twice the last counts
  try {
    const value = JSON.parse(typeof bytes === "string" ? bytes : utf8(bytes));
    return wellFormed(value) ? value : undefined;
  } catch { return undefined; }
}
export function readCanonical(bytes) {
  const value = readJson(bytes);
  return value !== undefined && canonical(value) === (typeof bytes === "string" ? bytes : utf8(bytes)) ? value :
    undefined;
}

// Forms of values. Lengths count code points.
const pattern = (re) => (v) => typeof v === "string" && re.test(v);
export const points = (s) => [...s].length;
export const text = (max) => (v) => typeof v === "string" && v !== "" && points(v) <= max;
const hex = (n) => (v) => typeof v === "string" && v.length === n && /^[0-9a-f]+$/.test(v) && !/^0+$/.test(v);
const INVISIBLE = new RegExp("[\\p{Cc}\\p{Cf}\\p{Cs}\\p{Zl}\\p{Zp}\\u034F\\u115F\\u1160\\u17B4\\u17B5\\u180B-\\u180F" +
  "\\u2065\\u3164\\uFE00-\\uFE0F\\uFFA0\\uFFF0-\\uFFF8\\u{E0000}-\\u{E0FFF}\\u2800\\u{16FE4}\\u{1D159}]", "u");
function isIdentifier(v) {
  if (!/^spiffe:/i.test(v)) return text(256)(v) && !INVISIBLE.test(v) && v.trim() === v;
  return typeof v === "string" && v.length <= 2048 &&
    /^spiffe:\/\/[a-z0-9._-]{1,255}(\/(?!\.{1,2}(\/|$))[a-zA-Z0-9._-]+)*$/.test(v);
}
const LABEL = /^(trusted|unknown|untrusted)(?::((?:[A-Za-z0-9_.@/-]{1,128}(?:,[A-Za-z0-9_.@/-]{1,128})*)?))?$/;
export function parseLabel(v) { // { integrity: 0 to 2, readers: null for everybody, or sorted ids }, or null
  const m = typeof v === "string" ? LABEL.exec(v) : null;
  if (!m || v.length > 256 || m[2]?.length > 246) return null;
  const readers = m[2] === undefined ? null : m[2].split(",").filter(Boolean);
  if (readers?.some((r, i) => r === "public" || (i && readers[i - 1] >= r))) return null;
  return { integrity: ["untrusted", "unknown", "trusted"].indexOf(m[1]), readers };
}
const JWS = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;
const FORMS = {
  id: pattern(/^[A-Za-z0-9_-]{21}[AQgw]$/), digest: pattern(/^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/),
  args: pattern(/^s?[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/), // a digest or a salted digest
  count: pattern(/^(0|[1-9][0-9]{0,18})$/), position: pattern(/^[1-9][0-9]{0,18}$/), digits: pattern(/^[0-9]{1,18}$/),
  identifier: isIdentifier, name: text(256), purpose: text(1024), text: text(MEMBER),
    slug: pattern(/^[a-z][a-z0-9_]{0,63}$/),
  word: pattern(/^[a-z][a-z0-9_.-]{0,63}$/), category: pattern(/^[A-Za-z0-9_.:/-]{1,128}$/),
  line: pattern(/^(?: |[^\p{C}\p{Z}]){1,256}$/u), jws: (v) => pattern(JWS)(v) && v.length <= 65536,
  label: (v) => parseLabel(v) !== null, traceid: hex(32), spanid: hex(16), yes: (v) => v === true,
  argument: pattern(/^.{1,256}:(string|boolean|number|null|array|object|opaque)$/su),
  clause: pattern(/^.{1,256}:[a-z_]+(\.[a-z_]+){0,16}$/su),
  integer: (v) => Number.isSafeInteger(v) ? v >= 0 : v === 2 ** 53, // of tokens
};
// Shapes, as on the page: `member:form`, `member?:form` for an optional one; a form is a name above or of a shape here,
// `=a|b` for one of these texts, `form[1..64]` for an array. `+shape` adds its members, `-member` takes one out.
// Where a name has two shapes, one of them fits.
const SHAPES = `
agent id:identifier owner:identifier version?:identifier
principal id:identifier kind:=human|service provenance:=asserted|verified issuer?:identifier roles?:identifier[1..64]
 via?:identifier[1..32]
outcomeprincipal +principal -roles
openedtask id:identifier expires?:count purpose?:purpose outer?:identifier
task +openedtask -outer
outcometask +task -expires -purpose
link id:identifier grant:digest
trace trace?:traceid span?:spanid parent?:spanid
model name:name provider?:name
action tool:identifier kind?:name stage?:=prompt|completion|open|delegate call?:name args?:args result?:digest
 route?:name names?:argument[1..100000] model?:model labels?:name[0..64] claims?:name[1..64] agent?:agent
 principal?:principal
outcomeaction +action -names -labels -claims
decision effect:=allow|warn|block|route enforced:=allow|block|modify|escalate|audit mode:=enforce|monitor reason:slug
 rule?:name why?:line argument?:name policy?:name version?:name digest?:digest approval?:id warnings?:name[1..1024]
outcomedecision +decision -policy -version
resource system:name name:name access:=read|write|delete|execute|send data?:name[1..64] digest?:digest
judged hop:digest seq:position
after label:label seq:position
part argument:name provenance:=principal|trusted|unknown|untrusted source?:id destination?:yes
inspected category:category inspector:name severity:=low|medium|high field?:name
transform name:name version:name original?:digest delivered?:digest
detail _salt:id names?:argument[1..100000] labels?:name[0..64] claims?:name[1..64] policy?:name version?:name
 workflow?:name roles?:identifier[1..64] resources?:resource[1..64] judged_at?:judged provenance?:part[1..256]
 claimed?:label findings?:inspected[1..1024] transforms?:transform[1..256]
sdk name:name version:name
process service?:name namespace?:name version?:name instance?:name environment?:name host?:name frameworks?:name[1..32]
policyof name:name version:name digest:digest engine?:word flow?:word
token token:jws
change hop:digest seq:position label:label prev?:id joined?:label sources?:id[1..64] origin?:digest digest?:digest
 token?:jws cause:=start|request|said|received|read|chunk|prompt|join|accept|answer|opened|isolated
counts intents:count outcomes:count open:count
asked id:id status:=pending|approved|rejected|expired expires?:count request?:digest channel?:word approver?:principal
 token?:jws reason?:name sources?:id[1..64]
registered hash:digest purpose:name status:=registered|suspended|retired|orphaned
server name:name transport:=stdio|http|other status:=pinned|moved place?:name title?:name version?:name reason?:name
offered name:name status:=pinned|changed|new pinned?:digest offered?:digest
revoked kind:=task|grant|agent|owner|human|service|key|everything name:identifier status:=revoked|suspended|reinstated
 version:position reason?:name
cut stream:id first:position last:position root:digest checkpoint:count
erased key:identifier by?:identifier reason?:line
erased principal:identifier keys:count by?:identifier reason?:line
erased pruned:cut
lost stream:id size:count sealed_before:count torn_bytes:count rejected_bytes:count open_count:count open?:id[1..64]
examined question:name digest:digest size:count by?:identifier
keytrust key:name purpose:=recorder|issuer|root|policy|witness|approver status:=trusted|renewed|distrusted
 certificate?:jws
end size:position
stream id:id seq:position prev?:digest
time start:count end?:count
Record v:=1 id:id kind:word stream:stream time:time
Open +Record task:openedtask principal:principal agent:agent chain:link[1..33] trace?:trace
Under +Open -task task:task
OutcomeUnder +Under -task -principal task:outcometask principal:outcomeprincipal
Outside +Record attribution:=none trace?:trace
Intended action:action decision:decision findings?:category[1..1024] resources?:resource[1..64] clauses?:clause[1..1024]
 workflow?:name judged_at?:judged provenance?:part[1..256] endorses?:yes resumes?:id
Ended action:outcomeaction decision:outcomedecision findings?:category[1..1024] intent?:id error?:name detail?:digest
 outcome:=success|error|cancelled|suspended|routed|denied label?:label mark_after?:after
stream_start +Record sdk:sdk resource?:process certificate?:jws
policy +Record policy:policyof
grant +Open grant:token
task_start +Open workflow?:name judged_at?:judged
intent +Under +Intended
intent +Outside +Intended
outcome +OutcomeUnder +Ended
outcome +Outside +Ended
mark +Under mark:change
task_end +Under counts:counts error?:name outcome?:=success|error|cancelled|suspended|routed|denied
approval +Under action:action approval:asked
registration +Record agent:agent registration?:registered
registration +Record server:server tools?:offered[1..1024]
revocation +Record revocation:revoked
erasure +Record erasure:erased
recovered +Record recovered:lost
examination +Record examination:examined
trust +Record trust:keytrust
stream_end +Record end:end
entry origin:text root:digest size:position stream:id time:count
entry lost:=checkpoint origin:text
kept count:count digest:digest
state size:count root:digest
closure origin:text root:digest size:position stream:id time:count torn:count
pruned origin:text stream:id size:position last:digest peaks:digest[1..64] time:count grants:kept log:state
 open?:id[1..1024]
whole end:position size:=0
rest end:position size:position last:digest peaks:digest[1..64]
ruling jti:id status:=approved|rejected task:identifier tool:identifier args?:args principal:principal agent:agent
 approver:principal iat:integer exp:integer iss:text reason?:identifier sources?:id[1..64]
signedmark grant:digest call:text label:label seq:digits by:digest`;
export const closed = (required, optional = {}) => (v) => isObject(v) && // an object with these members and no others
  Object.keys(v).every((k) => has(required, k) || has(optional, k)) &&
  Object.entries(required).every(([k, fits]) => has(v, k) && fits(v[k])) &&
  Object.entries(optional).every(([k, fits]) => !has(v, k) || fits(v[k]));
function form(spec) {
  const [, of, min, max] = /^(.+)\[(\d+)\.\.(\d+)\]$/.exec(spec) ?? [], one = of && form(of);
  if (of) return (v) => Array.isArray(v) && v.length >= Number(min) && v.length <= Number(max) && v.every(one);
  return spec[0] === "=" ? (v) => spec.slice(1).split("|").includes(v) : (v) => FORMS[spec](v);
}
const members = new Map();
for (const [name, ...specs] of SHAPES.trim().replace(/\n /g, " ").split("\n").map((line) => line.split(" "))) {
  const all = new Map(), chosen = (mark) => [...all.values()].filter((m) => m[1] === mark);
  const part = (mark) => Object.fromEntries(chosen(mark).map((m) => [m[0], form(m[2])]));
  for (const spec of specs) {
    if (spec[0] === "+") for (const [k, m] of members.get(spec.slice(1))) all.set(k, m);
    else if (spec[0] === "-") all.delete(spec.slice(1));
    else { const m = /^(\w+)(\??):(.+)$/.exec(spec).slice(1); all.set(m[0], m); }
  }
  // of two shapes, one fits
  const fits = closed(part(""), part("?")), before = members.has(name) ? FORMS[name] : () => false;
  members.set(name, all); FORMS[name] = (v) => before(v) || fits(v);
}
// What a shape does not say.
const also = (name, more) => { const fits = FORMS[name]; FORMS[name] = (v) => fits(v) && more(v); };
for (const name of ["action", "outcomeaction"]) also(name, (v) => has(v, "kind") || has(v, "stage"));
also("change", (v) => has(v, "prev") === (v.seq !== "1"));
export const ones = (n) => [...BigInt(n).toString(2)].filter((c) => c === "1").length;
for (const name of ["pruned", "rest"]) also(name, (v) => v.peaks.length === ones(v.size));
const isPart = ([id, v]) => FORMS.id(id) && (FORMS.whole(v) || (FORMS.rest(v) && BigInt(v.size) <= BigInt(v.end)));
export const isExcerpt = closed({ v: (v) => v === "1", streams: (v) => isObject(v) &&
  Object.entries(v).every(isPart) });
const isKind = (k) => /^[a-z]/.test(k) && members.get(k)?.has("kind"); // the bases have capitals
const reader = (fits) => (bytes) => { // of canonical bytes of this form
  const v = bytes.length <= MEMBER ? readCanonical(bytes) : undefined;
  return v !== undefined && fits(v) ? v : undefined;
};
export const readRecord = reader((v) => isObject(v) && isKind(v.kind) && FORMS[v.kind](v) &&
  (v.stream.seq === "1") === (v.kind === "stream_start") && (v.stream.seq === "1") === !has(v.stream, "prev"));
export const readDetail = reader(FORMS.detail), readEntry = reader(FORMS.entry);
export const { id: isId, jws: isJws, digest: isDigest, position: isPosition, agent: isAgent, principal: isPrincipal,
  integer: isInteger, line: isLine, closure: isClosure, pruned: isStatement, ruling: isRuling, signedmark: isSignedMark } = FORMS;
export { isIdentifier };
