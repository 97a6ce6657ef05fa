// Marks of tasks: information flow (record.md, rules 25 to 37). Each stream is judged by itself, in its order.
import { isSignedMark, parseLabel } from "./form.mjs";
import { areClaims } from "./grants.mjs";
import { jwsSignedBy, readJws, tokenHash } from "./crypto.mjs";
import { hopOf } from "./records.mjs";
function meet(a, b) { // the meet of two labels: the lower integrity, and the readers of both
  const [x, y] = [parseLabel(a), parseLabel(b)];
  const readers = x.readers === null ? y.readers : y.readers === null ? x.readers :
    x.readers.filter((r) => y.readers.includes(r));
  return ["untrusted", "unknown", "trusted"][Math.min(x.integrity, y.integrity)] + (readers === null ? "" :
    ":" + readers.join(","));
}
const under = (a, b) => meet(a, b) === a; // a is no less restricted than b
const CONSEQUENCES = ["payment", "destructive", "egress", "persists"];
const linksOf = (r) => r.chain?.map((c) => c.grant) ?? [];
class Flow {
  constructor(e, stream, first) {
    Object.assign(this, { e, stream, first, hops: new Map(), here: new Set(), started: new Set(), rules: new Set() });
    Object.assign(this, { isolated: new Map(), approved: new Map(), grants: new Set(), ended: new Map(),
      changed: false, continued: new Set() });
  }
  newest(hop) { return this.hops.get(hop)?.at(-1); }
  label(at) { return this.hops.get(at.hop)?.findLast((c) => c.seq <= BigInt(at.seq))?.label; }
  nearest(r) { return linksOf(r).findLast((hop) => this.hops.has(hop)); }
  elsewhere(hop) { return !this.hops.has(hop) && (this.e.partial || !this.here.has(hop)); }
  unchecked(one) { this.e.report("flow_not_checked", one); }
  /** Rule 26: a reference to a hop that began elsewhere is not checked; some stream has its first mark. */
  foreign(hop, one) {
    this.unchecked(one);
    if (!this.e.partial && !this.first.has(hop)) this.e.report("mark_out_of_order", one);
  }
  change(hop, one, seq, label, sources) {
    const before = this.newest(hop), known = before ? before.sources : seq === 1n ? new Set() : null;
    if (!before) this.hops.set(hop, []);
    const all = known?.size <= 64 ? new Set([...known, ...sources]) : known;
    this.hops.get(hop).push({ seq, label, id: one.r.id, sources: all });
    this.changed = true;
  }
  record(one) {
    const { r } = one, hop = hopOf(r);
    if (r.kind === "policy") this.rules.add(r.policy.flow);
    else if (r.kind === "grant" && tokenHash(r.grant.token) === hop) this.grants.add(hop);
    else if (r.kind === "mark") this.mark(one);
    else if (r.kind === "approval" && r.approval.status === "approved" &&
      this.changed) this.approved.set(r.approval.id, r.approval);
    else if (r.kind === "intent") this.intent(one);
    else if (r.kind === "outcome") this.outcome(one);
    else if (r.kind === "task_start" && r.judged_at) {
      if (r.chain.length === 1) this.here.add(hop);
      this.judged(one);
      if (this.hops.has(r.judged_at.hop)) this.here.add(hop); // for later records
      if (r.judged_at.hop === hop) this.started.add(hop);
    } else if (r.kind === "task_end" && this.isolated.has(hop)) { // rule 29: what it read was joined
      const origin = this.newest(this.isolated.get(hop));
      if (origin && !under(origin.label, this.newest(hop).label)) this.e.report("mark_mismatch", one);
      this.isolated.delete(hop);
    }
  }
  mark(one) {
    const { mark, chain } = one.r, { hop, cause, origin, label, joined = "trusted" } = mark;
    const seq = BigInt(mark.seq), newest = this.newest(hop), links = linksOf(one.r);
    const wrong = (bad, code = "mark_mismatch") => { if (bad) this.e.report(code, one); };
    const ordered = newest ? seq === newest.seq + 1n && mark.prev === newest.id : seq === 1n && !this.started.has(hop);
    if (!newest && seq !== 1n && this.elsewhere(hop)) { this.foreign(hop, one); this.continued.add(hop); } // rules 26 and 27
    else if (!ordered) wrong(true, "mark_out_of_order");
    else wrong(meet(newest?.label ?? "trusted", joined) !== label);
    wrong(!links.includes(hop));
    if (cause === "request" || cause === "said") wrong(mark.joined !== undefined || chain.length !== 1); // rule 28
    if (cause === "start") wrong(!under(label, "unknown"));
    if (cause === "isolated") { // rule 29
      if (seq !== 1n || !links.slice(0, links.indexOf(hop)).includes(origin)) wrong(true);
      else if (this.elsewhere(origin)) this.foreign(origin, one);
      else wrong(!this.newest(origin) || !under(label, this.newest(origin).label));
      this.isolated.set(hop, origin);
    }
    if (cause === "join" && origin && !this.e.marked.has(origin)) this.unchecked(one); // rule 26
    if (cause === "join" && this.isolated.has(origin)) wrong(!under(joined, this.newest(origin).label));
    if (cause === "opened") { // rule 30
      const outcome = this.ended.get(mark.sources?.[0]), asked = outcome && this.e.intentOf.get(outcome);
      if (mark.sources && !asked?.r.judged_at) this.unchecked(one);
      else wrong(outcome?.r.error !== "content_quarantined" || !outcome.r.label || !under(joined, outcome.r.label));
    }
    if (cause === "answer") this.answer(one, joined, wrong);
    const sources = mark.joined === undefined || cause === "start" ? [] : mark.sources ?? [one.r.id]; // rule 37
    this.change(hop, one, seq, label, sources);
  }
  answer(one, joined, wrong) { // rule 31
    const { token, origin } = one.r.mark, jws = readJws(token, "agent-identity-mark+jwt"), c = jws?.claims;
    if (!isSignedMark(c)) return wrong(true);
    if (![c.by, origin].every((hash) => this.grants.has(hash))) return this.unchecked(one);
    const [by, to] = [c.by, origin].map((hash) => readJws(this.e.token(hash), "aat+jwt"));
    const formed = [by, to].every((grant) => areClaims(grant?.claims));
    if (!formed || c.grant !== origin || !under(joined, c.label)) return wrong(true);
    const parent = by.claims.par_hash, together = c.by === origin ||
      (parent !== undefined && parent === to.claims.par_hash);
    wrong(!together || !jwsSignedBy(jws, by.claims.cnf?.jwk?.x));
  }
  judged(one) { // rule 32
    const { r } = one, { hop, seq } = r.judged_at, links = linksOf(r), near = this.nearest(r);
    if (r.kind === "task_start" && links.length === 1 && seq !== "1") this.e.report("mark_out_of_order", one);
    if (!links.includes(hop)) return this.e.report("mark_mismatch", one);
    if (this.elsewhere(hop)) this.foreign(hop, one);
    else if (near !== undefined && near !== hop) this.e.report("mark_mismatch", one);
    else if (near === undefined || BigInt(seq) !== this.newest(near).seq) this.e.report("mark_stale", one);
  }
  intent(one) {
    const { r } = one, rule = this.rules.size === 1 ? [...this.rules][0] : null;
    const enforce = r.decision.mode === "enforce";
    if (!r.judged_at) { // rule 33
      if (enforce && (this.nearest(r) || rule === "flow-1")) this.e.report("mark_absent", one);
      return;
    }
    this.judged(one);
    one.mark = this.label(r.judged_at);
    const newest = this.newest(r.judged_at.hop), approval = this.approved.get(r.decision.approval);
    if (newest && rule === null) this.unchecked(one);
    if (newest && rule === "flow-1" && enforce && parseLabel(newest.label).integrity < 2 &&
      needsPerson(r)) this.e.report("ran_against_mark", one);
    if (!approval || !newest) return;
    if (!newest.sources && (this.e.partial || this.continued.has(r.judged_at.hop))) this.unchecked(one); // rule 37
    else if (!newest.sources || newest.sources.size > 64 || ![...newest.sources].every((s) => approval.sources?.includes(s))) {
      this.e.report("ran_against_mark", one);
    }
  }
  outcome(one) { // rules 34 and 35
    const { r } = one, { label, mark_after: after } = r, intent = this.e.intentOf.get(one);
    const at = intent?.stream === this.stream && intent.place < one.place ? intent.r.judged_at : undefined;
    const wrong = (bad, code) => { if (bad) this.e.report(code, one); return bad; }, was = at ?? one.detail?.judged_at;
    one.mark = at ? intent.mark : was && this.label(was); // at which a call was suspended
    if (r.intent && at) this.ended.set(r.intent, one);
    if (!at) return r.intent && label && this.unchecked(one);
    if (!label || !after) return wrong(label || r.action.result || after, "label_mismatch");
    const least = intent.r.provenance?.some((p) => p.provenance === "untrusted") ? ["untrusted"] : [];
    if (intent.mark) least.push(intent.mark);
    const withheld = r.outcome === "denied" && r.error === "mark_not_recorded", claimed = one.detail?.claimed;
    wrong((!intent.r.endorses && !least.every((l) => under(label, l))) || (claimed && !under(label, claimed)) ||
      (!withheld && !under(after.label, label)), "label_mismatch");
    const seq = BigInt(after.seq), newest = this.newest(at.hop);
    if (wrong(seq < BigInt(at.seq) || (newest && seq > newest.seq + 1n), "mark_out_of_order")) return;
    if (newest ? seq === newest.seq + 1n : seq > BigInt(at.seq)) {
      wrong(newest && !under(after.label, newest.label), "mark_mismatch");
      if (!newest) this.continued.add(at.hop);
      this.change(at.hop, one, seq, after.label, [intent.r.id]);
    } else {
      const there = this.label({ hop: at.hop, seq });
      if (there === undefined) this.unchecked(one);
      else wrong(there !== after.label, "mark_mismatch");
    }
  }
}
/** Rule 36: whether the call, below a trusted mark, needs a person. */
function needsPerson({ action: { labels, claims = [], kind }, decision, provenance = [] }) {
  if (!["allow", "warn"].includes(decision.effect) || decision.enforced !== "allow" ||
    /^(streamed_)?model$/.test(kind)) return false;
  const claimed = CONSEQUENCES.filter((c) => claims.includes(c)), all = [...(labels ?? []), ...claimed];
  if (labels?.length === 0 && !claimed.length) return false;
  const wide = !labels || all.includes("persists") || !CONSEQUENCES.some((c) => all.includes(c));
  const leads = provenance.filter((p) => wide || p.destination);
  return !leads.length || leads.some((p) => ["unknown", "untrusted"].includes(p.provenance));
}
function judgeResumed(e, one) { // rule 25: the mark at which a suspended call goes on
  const before = e.suspensions.get(one.r.resumes), then = before?.mark, now = one.mark;
  if (!before || !then !== !now) e.report("flow_not_checked", one);
  else if (now && !under(now, then)) e.report("mark_mismatch", one);
}
export function judgeFlow(e, streams) {
  const first = new Set(e.records.filter(({ r }) => r.mark?.seq === "1").map(({ r }) => r.mark.hop));
  const origins = e.records.filter(({ r }) => r.mark && !/^(join|answer)$/.test(r.mark.cause));
  e.marked = new Set([...e.records.map(({ r }) => r.mark?.hop), ...origins.map(({ r }) => r.mark.origin)]);
  for (const stream of streams) {
    const flow = new Flow(e, stream, first);
    for (const one of stream.records) flow.record(one);
  }
  for (const one of e.records) if (one.r.resumes && one.r.decision.mode === "enforce") judgeResumed(e, one);
}
