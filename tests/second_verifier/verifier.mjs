// Verifier of evidence directories: node verifier.mjs FOLDER [--trust trust.json] [--json]
// Exit: 0 verified, 1 contradicted, 2 cannot tell, 3 incomplete; 4 without a verdict (usage, an unusable --trust).
// Left out: time-stamps (RFC 3161) and cosignatures of type 6, which count as absent; a checkpoint kept elsewhere;
// spans, proofs, disclosures, registries, inventories, several logs of one origin; the doubt about certificates of a
// stolen root stays, though a witness saw them before.
import { readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { has } from "./form.mjs";
import { NS, readTrust } from "./trust.mjs";
import { isSound, judgeEnds, judgeLog, mayRead, readCheckpoint, readExcerpt, readLog, readStreams, readWitnesses,
  walkStream } from "./ledger.mjs";
import { fromB64u } from "./crypto.mjs";
import { judgeRecords } from "./records.mjs";
import { judgeFlow } from "./flow.mjs";
const SEVERITIES = { // all others are contradicted (codes.md)
  cannot_tell: `nothing_to_verify no_trust bad_trust no_checkpoint unknown_key key_not_valid_then key_revoked
    not_witnessed unreadable unknown_record unknown_issuer`,
  incomplete: `closed_tail after_closure tail_unwitnessed log_rejected log_ahead unrecorded_intent counts_disagree outer_task_missing
    stream_missing stream_unknown approval_request_missing tail_unsealed malformed_tail torn_tail rejected_tail no_end
    kept_grants_missing excerpt`,
  notice: `closed closure_not_counted certificate_not_counted valid_by_own_clock log_unsealed unknown_outcome flow_not_checked dated_before_grant
    chain_not_checked approval_not_checked outer_principal_differs pruned stream_empty recovered erased`,
};
const isOf = (code, severity) => SEVERITIES[severity].split(/\s+/).includes(code);
const severityOf = (code) => Object.keys(SEVERITIES).find((one) => isOf(code, one)) ?? "contradicted";
const EXITS = { contradicted: 1, cannot_tell: 2, incomplete: 3 };
class Evidence {
  constructor(folder) {
    Object.assign(this, { folder, findings: [], streams: new Map(), heads: new Map(), states: [], records: [] });
    Object.assign(this, { seen: [], keptGrants: [], open: new Set(), checkpoint: null, trust: null });
    Object.assign(this, { partial: false, excerpted: false, denied: false, missing: false, proved: false,
      keptLacks: 0 });
  }
  report(code, at = {}) { // `at`: a placed record, or { stream, seq, record }
    const { stream, seq, record } = at.r ? { stream: at.stream.id, seq: at.place, record: at.r.id } : at;
    const finding = { code, severity: severityOf(code), stream, seq: seq?.toString(), record };
    this.findings.push(Object.fromEntries(Object.entries(finding).filter(([, v]) => v !== undefined)));
  }
  /** Whether the log, and more than a revoked key, proves that the record is as old as it says. */
  proves(one) { return one.sealed && this.proved && !one.doubted; }
}
function loadTrust(e, path) { // ledger 1
  const at = path ?? join(e.folder, "trust.json");
  try {
    const [file, folder] = [statSync(at).mode, statSync(dirname(at)).mode];
    if (file & 0o2 || (folder & 0o2 && !(folder & 0o1000))) throw new Error("everybody can write it");
    e.trust = readTrust(readFileSync(at));
  } catch (error) { // without one, no signature, issuer or chain is judged
    const absent = error.code === "ENOENT" && !path;
    if (!absent) e.report("bad_trust");
    if (!path) e.report("no_trust");
    e.void = path !== undefined;
  }
}
function loadCertificates(e) { // trust.md, "How a verifier checks it"
  if (!e.trust?.of("root").length) return;
  for (const stream of e.streams.values()) for (const { r } of stream.lines) {
    const t = r?.trust, given = t?.purpose === "recorder" && t.status !== "distrusted" ? t.certificate : r?.certificate;
    if (!given || e.trust.addCertificate(given)) continue;
    e.report("certificate_not_counted", { stream: stream.id, record: r.id });
  }
}
function recordersOf(e) { // the recorder keys of the log; of any, where none may sign for it
  const all = e.trust?.recorders() ?? [], own = all.filter((k) => e.trust.signsFor(k, e.checkpoint?.origin));
  return own.length ? own : all;
}
/** Records that only a revoked recorder key proves (ledger 16): what shows them to be older, and what replaced it. */
function judgeRevoked(e, keys) {
  const own = recordersOf(e).filter((k) => !k.certified), revoked = own.filter((k) => has(k, "revoked_since"));
  if (!revoked.length) return;
  const since = Math.min(...revoked.map((k) => k.revoked_since)), begin = (k) => k.not_before ?? -1;
  const isPin = (k) => k.takes_over && (k.origin ?? e.trust.origin) === e.checkpoint?.origin;
  const pins = own.filter(isPin), size = (k) => BigInt(k.takes_over.size);
  const after = pins.filter((k) => revoked.every((r) => begin(k) > begin(r)));
  const least = (sizes) => sizes.reduce((a, b) => (a < b ? a : b));
  const most = (sizes) => sizes.reduce((a, b) => (a > b ? a : b), 0n);
  const replaced = after.some((k) => keys.includes(k)) ? least(after.map(size)) : undefined;
  const shown = most([...pins.filter((k) => begin(k) < since).map(size),
    ...e.seen.filter(({ time }) => time < since).map((s) => s.size)]);
  const headed = (n, one) => (e.heads.get(one.stream.id) ?? []).filter((h) => h.at <= n).map((h) => h.size);
  const under = (n, one) => one.place <= most(headed(n, one));
  const doubted = e.records.filter((one) => one.covered && (replaced === undefined || under(replaced, one)));
  const isLate = ({ r }) => BigInt(r.time.end ?? r.time.start) >= BigInt(since) * NS;
  const none = doubted.some((one) => isLate(one) && under(shown, one)), codes = new Set(none ? ["key_revoked"] : []);
  for (const one of doubted.filter((d) => none || !under(shown, d))) {
    one.doubted = true;
    codes.add(isLate(one) ? "signed_after_revocation" : "key_revoked");
  }
  for (const code of codes) e.report(code);
}
function judgeKeys(e) { // keys under the checkpoint, at the times of the records that it covers (ledger 2)
  const { keys = [] } = e.checkpoint ?? {}, sealed = e.records.filter((one) => one.sealed);
  const starts = sealed.map((one) => BigInt(one.r.time.start) / NS * NS); // in whole seconds
  const doubted = keys.length > 0 && !keys.some(isSound);
  judgeRevoked(e, keys);
  if (doubted) e.report("key_revoked");
  if (!keys.length || !e.records.length) return;
  const zero = starts[0] ?? 0n, latest = starts.reduce((a, b) => (a > b ? a : b), zero);
  const first = starts.reduce((a, b) => (a < b ? a : b), zero), certified = keys.every((k) => k.certified);
  const valid = (ks, ns) => ks.some((k) => e.trust.valid(k, ns));
  const sure = recordersOf(e).filter((k) => !has(k, "revoked_since")) // neither revoked nor in doubt
    .map((k) => (k.certified ? { ...k, certified: k.certified.filter((c) => !c.doubtful) } : k));
  const then = valid(keys, latest) && (!certified || valid(sure, first));
  if (starts.length && !doubted && !then) e.report("key_not_valid_then");
  const seen = e.seen.filter((s) => s.size >= e.checkpoint.size);
  if (certified && !doubted && !seen.some((s) => valid(keys, s.time * NS))) e.report("valid_by_own_clock");
}
function judgeExtent(e) { // Ledger 1: whether there is anything to verify
  const lines = [...e.streams.values()].some((s) => s.lines.length || s.denied);
  for (const id of e.excerpted ? [] : e.heads.keys()) {
    if (e.streams.has(id)) continue;
    e.report("stream_missing", { stream: id });
    e.missing = true;
  }
  const headed = [...e.streams.values()].some((s) => s.headed);
  if (!lines || (e.proved && !e.missing && !headed)) e.report("nothing_to_verify");
}
/** Verifies a directory: { exit, verdict, findings: [{ code, severity, stream, seq, record }] }. */
export function verify(folder, trustPath) {
  const e = new Evidence(folder);
  loadTrust(e, trustPath);
  if (e.void) return { exit: 4, verdict: "none", findings: e.findings };
  const read = mayRead(e, () => {
    readLog(e);
    const whole = mayRead(e, () => { readExcerpt(e); readStreams(e); });
    loadCertificates(e); readCheckpoint(e);
    if (e.trust) readWitnesses(e);
    judgeLog(e);
    if (whole) judgeStreams(e);
  });
  if (!read) e.findings.splice(0, e.findings.length - 1); // ledger.md, "What cannot be read": nothing is checked
  const worst = Object.keys(EXITS).find((s) => e.findings.some((f) => f.severity === s));
  return { exit: EXITS[worst] ?? 0, verdict: worst ?? "verified", findings: e.findings };
}
function judgeStreams(e) {
  const rank = (s) => (e.heads.has(s.id) ? "0" : "1") + fromB64u(s.id).toString("hex"); // the order of reading
  const order = [...e.streams.values()].filter((s) => !s.denied).sort((a, b) => (rank(a) < rank(b) ? -1 : 1));
  for (const stream of order) { walkStream(e, stream); for (const one of stream.records) e.records.push(one); }
  judgeExtent(e); judgeEnds(e); judgeKeys(e); judgeRecords(e); judgeFlow(e, order);
}
function main(args) {
  const options = { trust: { type: "string" }, json: { type: "boolean" } };
  const { values, positionals: [folder, ...more] } = parseArgs({ args, options, allowPositionals: true });
  if (!folder || more.length) throw new Error("usage: node verifier.mjs FOLDER [--trust trust.json] [--json]");
  const report = verify(folder, values.trust);
  const texts = report.findings.map((f) => [f.severity, f.code, f.stream, f.seq, f.record].filter(Boolean).join(" "));
  if (values.json) console.log(JSON.stringify(report, null, 1));
  else console.log([...texts, `${report.verdict}: exit ${report.exit}`].join("\n"));
  return report.exit;
}
if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  try { process.exitCode = main(process.argv.slice(2)); } catch (error) {
    console.error(`no verdict: ${error.message}`); process.exitCode = 4;
  }
}
