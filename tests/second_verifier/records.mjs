// Rules about records: calls, tasks, grants, approvals, resumed calls, erasure (record.md, rules 9 to 25 and 38).
import { has, pick, same } from "./form.mjs";
import { tokenHash } from "./crypto.mjs";
import { usesOf, verifyChain, verifyRuling } from "./grants.mjs";
import { NS } from "./trust.mjs";
const RAN = ["success", "error", "cancelled"];
export function group(items, key) {
  const map = new Map();
  for (const one of items) {
    const k = key(one);
    if (k !== undefined) map.set(k, map.get(k) ?? []).get(k).push(one);
  }
  return map;
}
const without = (o, key) => pick(o, ...Object.keys(o).filter((k) => k !== key));
export const hopOf = (r) => r.chain?.at(-1).grant;
const isAllowed = (r) => (r.kind === "intent" || r.kind === "outcome") && r.decision.effect !== "block";
const enforced = (r) => r.decision.mode === "enforce";
/** Whether a decision lets a call run, or hands it over (record 12). */
const letsRun = ({ mode, effect, enforced: by }) => (mode === "enforce" ?
  (["allow", "warn", "route"].includes(effect) && ["allow", "modify"].includes(by)) ||
    (effect === "route" && by === "escalate") :
  by === "audit" || (["allow", "warn"].includes(effect) && by === "allow"));
/** Whether a policy handed the call to a route, so that its body does not return (record 12). */
const handedOver = ({ effect, enforced: by, approval }) => effect === "route" &&
  (by === "escalate" || (by === "modify" && approval === undefined));
const passed = (d) => d.effect === "route" && d.enforced === "allow";
export function judgeRecords(e) {
  const kinds = group(e.records, (one) => one.r.kind), of = (kind) => kinds.get(kind) ?? [];
  const suspended = of("outcome").filter(({ r }) => r.outcome === "suspended");
  e.suspensions = new Map(suspended.map((one) => [one.r.id, one])); // of one id, the last
  e.hops = group(e.records, (one) => hopOf(one.r));
  judgeCalls(e, of);
  judgeChains(e, of);
  for (const [, all] of e.hops) judgeHop(e, all);
  judgeOuter(e, group(e.records.filter(({ r }) => /^(grant|task_start)$/.test(r.kind)), (one) => one.r.task.id));
  if (!e.denied) judgeApprovals(e, of);
  for (const one of of("intent")) if (one.r.resumes && enforced(one.r)) judgeResumed(e, one);
  for (const one of of("erasure")) if (!one.r.erasure.pruned) e.report("erased", one); // record 38
}
function pairCalls(e) { // rule 10: which outcome takes which intent
  Object.assign(e, { intentOf: new Map(), outcomeOf: new Map(), doubled: new Set() });
  const pair = (intent, outcome) => { e.intentOf.set(outcome, intent); e.outcomeOf.set(intent, outcome); };
  const byId = group(e.records.filter(({ r }) => r.kind === "intent" || r.intent),
    ({ r }) => (r.kind === "intent" ? r.id : r.intent));
  for (const [, all] of byId) {
    const left = [], waiting = new Map(); // outcomes, and intents by their streams
    const replace = (old, one) => { if (old) { e.doubled.add(old); e.report("two_versions", one); } return one; };
    for (const one of all) {
      const intent = waiting.get(one.stream);
      if (one.r.kind === "intent") waiting.set(one.stream, replace(intent, one));
      else if (intent) { pair(intent, one); waiting.delete(one.stream); }
      else if (!e.open.has(one.r.intent)) left.push(one);
    }
    const last = [...waiting.values()].reduce(replace, undefined);
    if (last && left.length) pair(last, left[0]);
  }
}
function judgeCalls(e, of) { // Rules 9 to 12
  pairCalls(e);
  for (const one of of("outcome")) {
    const { r } = one, { approval } = r.decision;
    if (r.intent === undefined) {
      const refused = ["denied", "routed"].includes(r.outcome) || (r.outcome === "suspended" && approval);
      if (!refused) e.report(enforced(r) ? "outcome_without_intent" : "unrecorded_intent", one); // record 9
      continue;
    }
    const wrong = r.outcome === "success" && handedOver(r.decision); // record 12
    if (r.outcome !== "denied" && (wrong || !letsRun(r.decision))) e.report("blocked_but_ran", one);
    const intent = e.intentOf.get(one), hidden = e.excerpted || e.denied || e.open.has(r.intent);
    if (!intent) { if (!hidden) e.report("intent_missing", one); }
    else if (intent.stream === one.stream && intent.place > one.place) e.report("outcome_before_intent", one);
    else if (!isPair(intent.r, r)) e.report("intent_mismatch", one);
  }
  for (const one of of("intent")) {
    if (!e.outcomeOf.has(one) && !e.doubled.has(one)) e.report("unknown_outcome", one); // record 11
    if (!letsRun(one.r.decision)) e.report("blocked_but_ran", one); // record 12
  }
}
function isPair(intent, r) { // record 10
  const [a, b] = [intent.decision, r.decision];
  if (hopOf(intent) !== hopOf(r) || intent.action.tool !== r.action.tool ||
    intent.action.args !== r.action.args || a.mode !== b.mode) return false;
  if (!enforced(r) || [a, b].some((d) => d.effect === "block") ||
    !RAN.includes(r.outcome)) return true;
  const alike = a.enforced === b.enforced && (a.effect === b.effect || (a.effect === "allow" && b.effect === "warn"));
  const routed = r.outcome === "success" && a.effect === "route" && a.approval === undefined;
  const changed = b.enforced === "modify" && !routed; // a result that a policy changed
  return (alike || changed) && a.approval === b.approval;
}
function judgeChains(e, of) { // Rules 15 to 18: what records say of their grants
  const isOwn = ({ r }) => tokenHash(r.grant.token) === hopOf(r), own = of("grant").filter(isOwn);
  const tokens = new Map([...e.keptGrants, ...own.map(({ r }) => r.grant.token)].map((t) => [tokenHash(t), t]));
  e.token = (hash) => tokens.get(hash);
  for (const one of of("grant")) if (!isOwn(one)) e.report("bad_grant", one);
  for (const [, all] of e.hops) {
    const [first] = all, chain = first.r.chain.map((c) => tokens.get(c.grant));
    let grants;
    if (chain.includes(undefined)) e.report(mayBeElsewhere(e, all) ? "chain_not_checked" : "unknown_grant", first);
    else if (e.trust) {
      const result = verifyChain(chain, e.trust);
      grants = result.grants;
      if (result.code) e.report(result.code, first);
      else if (!judgeIssuer(e, result.issuer, grants[0].claims.iat, first, true)) grants = undefined;
    }
    let model = first.r;
    for (const one of all) { // record 15
      if (!agree(one.r, model)) e.report("claims_differ", one);
      else if (model.kind === "outcome" && one.r.kind !== "outcome") model = one.r;
    }
    const told = new Set(), holds = grants && agreeWithGrants(model, grants);
    if (grants && !holds) e.report("claims_differ", first);
    for (const one of all) if (holds && isAllowed(one.r)) judgeAllowed(e, one, grants.at(-1).claims, told);
  }
  for (const one of e.records) { // record 17
    if (isAllowed(one.r) && !one.r.task) e.report("allowed_without_task", one);
  }
  judgeUses(e, of("outcome"));
}
/** Whether a grant of a hop that is not here may be one that the evidence lacks by right (record 16). */
function mayBeElsewhere(e, all) {
  if (e.missing || e.excerpted || e.denied || e.keptLacks) return true;
  return e.partial && !all.some(({ r }) => r.kind === "intent" && isAllowed(r) &&
    r.chain.some((c) => e.token(c.grant) === undefined));
}
/** A key that signed at `iat`: revoked, or certified (record 16 and 22). Returns whether its signature counts. */
function judgeIssuer(e, issuer, iat, one, first) {
  const { time } = one.r, date = BigInt((first && time.end) ?? time.start), limit = BigInt(issuer.revoked ?? 0) * NS;
  const late = iat >= issuer.revoked, older = e.proves(one) && date < limit;
  const counts = !late && !issuer.doubtful && (issuer.revoked === undefined || older);
  if (!counts) e.report(late ? "signed_after_revocation" : "key_revoked", one);
  else if (first && !e.trust.covering(issuer, date)) e.report("valid_by_own_clock", one);
  return counts;
}
function agree(a, b) { // records under one grant
  const short = a.kind === "outcome" || b.kind === "outcome", who = (p) => (short ? without(p, "roles") : p);
  return a.task.id === b.task.id && same(who(a.principal), who(b.principal)) && same(a.agent, b.agent) &&
    same(a.chain, b.chain) && (short || a.task.expires === b.task.expires);
}
function agreeWithGrants(r, grants) {
  const [root, leaf] = [grants[0].claims, grants.at(-1).claims];
  const who = (p) => (r.kind === "outcome" ? without(p, "roles") : p);
  return same(who(r.principal), who(root.principal)) && same(r.agent, leaf.agent) && r.task.id === root.txn &&
    r.chain.every((c, i) => c.id === grants[i].claims.agent.id) &&
    (r.task.expires === undefined || BigInt(r.task.expires) <= BigInt(leaf.exp) * NS);
}
function judgeAllowed(e, one, leaf, told) { // record 17
  const { tool } = one.r.action, start = BigInt(one.r.time.start);
  const once = (code, key = code) => { if (!told.has(key)) e.report(code, one); told.add(key); };
  if (!has(leaf.authorization_details[0].tools, tool)) once("tool_outside_grant", "tool " + tool);
  if (start >= BigInt(leaf.exp) * NS) once("outside_grant_time");
  if (start < (BigInt(leaf.iat) - 30n) * NS) once("dated_before_grant");
}
function judgeUses(e, outcomes) { // record 18
  const uses = new Map();
  for (const one of outcomes) {
    const { decision, chain, intent, outcome, action } = one.r;
    if (!chain || !intent || !RAN.includes(outcome) ||
      !(["allow", "warn"].includes(decision.effect) || passed(decision))) continue;
    for (const { tool, max } of usesOf(e.token(hopOf(one.r)))) {
      const key = `${chain[0].grant} ${tool}`, { used = 0, least = max } = uses.get(key) ?? {};
      const spent = tool === "*" || tool === action.tool;
      uses.set(key, { used: used + spent, least: Math.min(least, max), one });
    }
  }
  for (const { used, least, one } of uses.values()) if (used > least) e.report("limit_exceeded", one);
}
function judgeHop(e, all) { // Rules 13 and 14: numbers and order of a hop
  const sum = { intents: 0, outcomes: 0 }, most = { intents: 0, outcomes: 0 };
  const streams = group(all, (one) => one.stream);
  const opened = [...streams.values()].filter((own) => own.some((one) => ["grant", "task_start"].includes(one.r.kind)));
  const starts = all.filter((one) => one.r.kind === "task_start").length, twice = opened.length > 1;
  let found = e.partial || (twice && starts > 1);
  for (const [, own] of streams) {
    const n = { task_start: 0, task_end: 0, grant: 0, intent: 0, taken: 0 };
    for (const one of own) {
      const { kind } = one.r, ended = n.task_start && n.task_end >= n.task_start;
      let wrong = kind === "intent" && enforced(one.r) && ended ? "call_after_task_end" : undefined;
      if (kind === "task_start" && !n.task_start && n.intent) wrong = "opening_after_call";
      if (kind === "grant" && !n.grant && n.task_start && !twice) wrong = "opening_after_call";
      if (wrong && !found) { found = true; e.report(wrong, one); }
      if (kind === "task_end") {
        const takes = n.taken < n.task_start;
        n.taken += takes;
        for (const k of ["intents", "outcomes"]) {
          if (takes) sum[k] += Number(one.r.counts[k]);
          else if (!e.partial) most[k] = Math.max(most[k], Number(one.r.counts[k]));
        }
      }
      n[kind]++;
    }
  }
  const here = (kind) => all.filter((one) => one.r.kind === kind).length;
  const short = (k) => here(k.slice(0, -1)) < Math.max(sum[k], most[k]);
  if (short("intents") || short("outcomes")) e.report("counts_disagree",
    all.findLast((one) => one.r.kind === "task_end"));
}
function judgeOuter(e, tasks) { // rule 19: outer tasks; `tasks` are the openings by id of their task
  const outer = new Map(), depth = new Map();
  for (const [id, all] of tasks) {
    const named = all.filter((one) => one.r.task.outer !== undefined), [one] = named;
    if (!one) continue;
    outer.set(id, one.r.task.outer);
    if (named.some(({ r }) => r.task.outer !== outer.get(id))) e.report("outer_task_differs", one);
    const above = tasks.get(outer.get(id)), there = above?.find((o) => has(o.r.task, "outer")) ?? above?.[0], who = ({ r }) => pick(r.principal, "id", "kind");
    if (!there) { if (!e.partial) e.report("outer_task_missing", one); }
    else if (!same(who(one), who(there))) e.report("outer_principal_differs", one);
  }
  for (const id of outer.keys()) {
    const path = new Set();
    let at = id;
    while (outer.has(at) && !depth.has(at) && !path.has(at)) { path.add(at); at = outer.get(at); }
    if (path.has(at) || path.size + (depth.get(at) ?? 0) > 10000) e.report("outer_task_cycle", tasks.get(id)[0]);
    [...path].reverse().forEach((one, i) => depth.set(one, (depth.get(at) ?? 0) + i + 1));
  }
}
function judgeApprovals(e, of) { // Rules 20 to 24
  const asked = group(of("approval"), (one) => one.r.approval.id);
  const status = (id, ...names) => (asked.get(id) ?? []).filter((one) => names.includes(one.r.approval.status));
  for (const one of [...of("intent"), ...of("outcome")]) {
    const { r } = one, id = r.decision.approval;
    if (id === undefined && !passed(r.decision)) continue;
    if (r.kind === "outcome" && !r.intent && r.decision.enforced !== "allow") continue;
    if (id === undefined || !r.task || (r.kind === "outcome" && !r.intent)) e.report("approval_missing", one);
    else if (r.kind === "intent") judgeUse(e, one, status(id, "approved"));
  }
  const users = group(of("intent").filter(({ r }) => r.task), (one) => one.r.decision.approval);
  const paused = new Set(of("outcome").filter(({ r }) => r.outcome === "suspended" && r.task && r.decision.approval)
    .map((one) => one.r.intent));
  for (const [id, all] of users) { // record 21
    const counted = all.filter((one) => !paused.has(one.r.id));
    if (counted.length > 1 || all.length > 1024) e.report("approval_reused", all.at(-1));
  }
  for (const [id, all] of asked) {
    const answers = status(id, "approved", "rejected"), pending = status(id, "pending");
    if (answers.length > 1024 || pending.length > 1024) e.report("approval_reused", all[0]);
    for (const [, own] of group(all, (one) => one.r.task.id)) { // record 22
      const requests = new Set(own.map((one) => one.r.approval.request).filter(Boolean));
      if (requests.size > 1) e.report("approval_mismatch", own.at(-1));
    }
    for (const one of answers) judgeAnswer(e, one, pending);
  }
}
const like = (a, b, ...keys) => keys.every((k) => same(a[k], b[k]));
function judgeUse(e, one, approved) { // record 20
  const { r } = one, own = e.hops.get(hopOf(r)).filter((o) => o.stream === one.stream && o.place < one.place);
  const last = own.findLast((o) => ["task_start", "task_end"].includes(o.r.kind));
  if (!approved.length) {
    const elsewhere = (e.missing || e.partial) && last?.r.kind !== "task_start";
    return e.report(elsewhere ? "approval_not_checked" : "approval_missing", one);
  }
  const fits = ({ r: a }) => a.task.id === r.task.id && like(a.action, r.action, "tool", "args") &&
    like(a, r, "principal", "agent") &&
    same(a.chain.map((c) => c.id), r.chain.map((c) => c.id));
  if (!approved.some(fits)) e.report("approval_mismatch", one);
}
/** For comparing ids: NFKC, full case folding and NFKC; dotless i folds to itself. */
const fold = (s) => [...s.normalize("NFKC")].map((c) => (c === "\u0131" ? c :
  c.toLowerCase().toUpperCase().toLowerCase()))
  .join("").normalize("NFKC");
function judgeAnswer(e, one, pending) {
  const { r } = one, a = r.approval, mine = [r.principal.id, ...(r.principal.via ?? []),
    ...r.chain.map((c) => c.id)].map(fold);
  const approvers = a.approver ? [a.approver.id, ...(a.approver.via ?? [])].map(fold) : [];
  if (approvers.some((id) => mine.includes(id))) e.report("approval_self", one); // record 23
  if (a.approver?.kind !== "human") return e.report("approval_forged", one); // record 22
  const { code, claims: c, issuer } = e.trust ? verifyRuling(a.token, e.trust) : {};
  if (code) e.report(code, one);
  if (!c) return;
  const start = BigInt(r.time.start), here = c.task === r.task.id;
  const agrees = c.jti === a.id && c.status === a.status && c.tool === r.action.tool && same(c.approver, a.approver) &&
    like(c.principal, r.principal, "id", "kind") && like(c.agent, r.agent, "id", "owner") &&
    (!here || c.args === r.action.args) && (a.expires === undefined || BigInt(a.expires) === BigInt(c.exp) * NS) &&
    ["reason", "sources"].every((k) => !has(a, k) || same(a[k], c[k]));
  if (!agrees) e.report("approval_mismatch", one);
  const late = start < (BigInt(c.iat) - 30n) * NS || start >= BigInt(c.exp) * NS;
  if (a.status === "approved" && late) e.report("approval_late", one);
  judgeIssuer(e, issuer, c.iat, one);
  const asked = ({ r: q }) => q.task.id === c.task && q.action.args === c.args && q.action.tool === r.action.tool &&
    like(q, r, "principal", "agent");
  if (here || !agrees || pending.some(asked)) return;
  const elsewhere = !pending.length && (e.missing || e.partial); // record 24
  e.report(elsewhere ? "approval_not_checked" : "approval_request_missing", one);
}
function judgeResumed(e, one) { // record 25, but for the marks
  const before = e.suspensions.get(one.r.resumes)?.r, { r } = one;
  if (!before) return; // not checked: record 26
  const alike = (k, ...keys) => same(pick(before[k], ...keys), pick(r[k], ...keys));
  if (!alike("action", "tool") || !alike("principal", "id", "kind", "issuer") ||
    !alike("agent", "id", "owner")) e.report("approval_mismatch", one);
  if (before.decision.effect === "route" && r.decision.approval === undefined) e.report("approval_missing", one);
}
