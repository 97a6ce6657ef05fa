// Forgeries of evidence: node surgeries.mjs CASE_FOLDER OUT_FOLDER writes a folder for each, with its trust.json, and
// list.json. Bytes: a copy of the case, altered and not sealed again. Facts: records of the case, altered, numbered,
// hashed and sealed again by a recorder key of our own, which the trust.json of the copy names. Book: a ledger of our
// own with keys of our own.
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, symlinkSync,
  writeFileSync } from "node:fs";
import { createPrivateKey, createPublicKey, sign } from "node:crypto";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { canonical } from "./form.mjs";
import { Range, b64u, leafHash, noteKeyId, sha256, thumbprint, tokenHash } from "./crypto.mjs";

const ZERO = "A".repeat(43), LOG = "surgery.example/log", T = 1764500000, S = "000000000";
function keyOf(name) {
  const prefix = Buffer.from("302e020100300506032b657004220420", "hex");
  const key = createPrivateKey({ key: Buffer.concat([prefix, sha256(name)]), format: "der", type: "pkcs8" });
  const { x } = createPublicKey(key).export({ format: "jwk" });
  return { key, x, kid: thumbprint(x), jwk: { crv: "Ed25519", kty: "OKP", x } };
}
const NAMES = ["recorder", "issuer", "clerk", "helper", "stranger", "root"];
const KEYS = Object.fromEntries(NAMES.map((n) => [n, keyOf("surgery " + n)]));
const entryOf = (name, more = {}) => ({ ...KEYS[name].jwk, kid: KEYS[name].kid, alg: "EdDSA", purpose: name, ...more });
const part = (v) => Buffer.from(canonical(v)).toString("base64url");
function jws(k, typ, claims, header = { kid: k.kid }) {
  const input = part({ alg: "Ed25519", typ, ...header }) + "." + part(claims);
  return input + "." + sign(null, Buffer.from(input), k.key).toString("base64url");
}
let counter = 0;
const newId = () => { const b = Buffer.alloc(16, 7); b.writeUInt32BE(++counter, 12); return b64u(b); };
const dig = (s) => b64u(sha256(String(s)));
const write = (text, ...path) => writeFileSync(join(...path), text, "latin1");
function note(k, body) {
  const id = noteKeyId(LOG, 1, Buffer.from(k.x, "base64url"));
  const signature = Buffer.concat([id, sign(null, Buffer.from(body), k.key)]);
  return Buffer.from(`${body}\n\u2014 ${LOG} ${signature.toString("base64")}\n`).toString("latin1");
}
/** Numbers, hashes and seals streams: Map of id to [{ r, detail }]; `log` edits the entries, `after` the folder. */
function seal(streams, folder, { log = (all) => all, after = () => {}, keys, recorder = KEYS.recorder } = {}) {
  const entries = [], tree = new Range(), states = new Map();
  for (const [id, lines] of streams) {
    const range = new Range();
    let out = "", prev;
    lines.forEach(({ r, detail, asIs }, i) => {
      const stated = detail && !asIs ? { detail: dig(canonical(detail)) } : {};
      const text = canonical({ ...r, ...stated, stream: { id, seq: String(i + 1), ...(prev && { prev }) } });
      const leaf = leafHash(Buffer.from(text));
      prev = b64u(leaf);
      range.push(leaf);
      states.set(`${id} ${i + 1}`, { last: prev, peaks: range.peaks.map(b64u) });
      out += `{${detail ? `"detail":${canonical(detail)},` : ""}"mac":"${ZERO}","record":${text}}\n`;
    });
    mkdirSync(join(folder, "ledger", id), { recursive: true });
    writeFileSync(join(folder, "ledger", id, "entries.jsonl"), out);
    entries.push({ origin: LOG, root: range.root(), size: String(range.size), stream: id, time: `${T + 90}${S}` });
  }
  const texts = log(entries).map(canonical);
  for (const text of texts) tree.push(leafHash(Buffer.from(text)));
  mkdirSync(join(folder, "log"), { recursive: true });
  write(texts.map((text) => `{"entry":${text},"mac":"${ZERO}"}\n`).join(""), folder, "log", "entries.jsonl");
  const root = Buffer.from(tree.root(), "base64url").toString("base64");
  write(note(recorder, `${LOG}\n${tree.size}\n${root}\n`), folder, "log", "checkpoint");
  const file = { version: "1", id: "surgeries", revision: 1, origin: LOG };
  const trust = { ...file, keys: keys ?? [entryOf("issuer"), entryOf("recorder")] };
  write(JSON.stringify(trust, null, 1), folder, "trust.json");
  after(folder, states);
}

// ---- Bytes
const fileOf = (f, id) => join(f, "ledger", id, "entries.jsonl");
const biggest = (f) => readdirSync(join(f, "ledger")).map((id) => fileOf(f, id)).filter(existsSync)
  .sort((a, b) => statSync(b).size - statSync(a).size)[0];
const edit = (pick, change) => (f) => {
  const before = readFileSync(pick(f), "latin1"), after = change(before);
  if (before === after) throw new Error("no change");
  write(after, pick(f));
};
const lines = (change, pick = biggest) => edit(pick, (s) => [...change(s.split("\n").slice(0, -1)), ""].join("\n"));
const middle = (change) => lines((a) => a.flatMap((l, i) => (i === a.length >> 1 ? change(l, a) : l)));
const withheld = (l) => `{"leaf":"${b64u(leafHash(Buffer.from(/"record":(.*)\}$/.exec(l)[1], "latin1")))}"}`;
const inLog = (name) => (f) => join(f, "log", name);
const trusted = (change) => (f) => {
  const file = JSON.parse(readFileSync(join(f, "trust.json")));
  change(file.keys.find((k) => k.purpose === "recorder"), file);
  write(JSON.stringify(file), f, "trust.json");
};
const segment = (change) => (f) => {
  const at = biggest(f), s = change(gzipSync(readFileSync(at)));
  writeFileSync(at.replace("entries.jsonl", "entries-00000000000000000001.jsonl.gz"), s);
  rmSync(at);
};
const BYTES = {
  "line out": [middle(() => []), "The middle line of a stream was taken out."],
  "lines exchanged": [lines((a) => [a[0], a[2], a[1], ...a.slice(3)]),
    "The second and third line stand in each other's place."],
  "withheld outside": [middle((l) => withheld(l)),
    "A line is withheld, and there is no excerpt."],
  "blank lines": [middle((l) => ["", "", l]), "Two blank lines stand in the middle of a stream."],
  "line of spaces": [middle((l) => ["  ", l]), "A line of spaces stands in the middle of a stream."],
  "mac with spare bits": [middle((l) => l.replace(/"mac":"(.{42})./, '"mac":"$1B')),
    "A MAC has spare bits that are not zero."],
  "later version": [middle((l) => l.replace(/"v":"1"\}\}$/, '"v":"2"}}')),
    "A record below the head claims a later version."],
  "later tail": [lines((a) => [...a, `{"mac":"${ZERO}","record":{"n":1,"v":"2"}}`]),
    "A record of a later version follows the last head."],
  "deep tail": [lines((a) => [...a, `{"mac":"${ZERO}","record":{"a":${"[".repeat(5000)}${"]".repeat(5000)},"v":"2"}}`]),
    "A record of a later version, nested 5,000 deep, follows the last head."],
  "torn": [edit(biggest, (s) => s + '{"mac":"'), "A stream ends inside a line."],
  "log line first": [lines((a) => ["garbage", ...a], inLog("entries.jsonl")),
    "The log begins with a line that is no entry."],
  "log line last": [lines((a) => [...a, "garbage"], inLog("entries.jsonl")),
    "The log ends with a line that is no entry."],
  "log blank": [lines((a) => [...a, "", ""], inLog("entries.jsonl")), "The log ends with blank lines."],
  "checkpoint extended": [edit(inLog("checkpoint"), (s) => s.replace("\n\n", "\nextension\n\n")),
    "A line was added to a checkpoint."],
  "checkpoint out": [(f) => rmSync(join(f, "log", "checkpoint")), "The checkpoint is missing."],
  "link for a stream": [(f) => {
    const at = biggest(f);
    renameSync(at, join(f, "moved"));
    symlinkSync(join(f, "moved"), at);
  }, "The file of a stream is a symbolic link."],
  "compressed and cut": [segment((s) => s.subarray(0, -20)), "A compressed segment is cut."],
  "compressed and more": [segment((s) => Buffer.concat([s, gzipSync("x\n")])),
    "A compressed segment has a second member."],
  "recorder revoked": [trusted((k) => { k.revoked_since = 1; }), "The recorder key was revoked before all records."],
  "took over elsewhere": [trusted((k) => { k.takes_over = { size: "1", root: ZERO }; }),
    "The key took over at another root."],
  "no recorder": [trusted((k, file) => { file.keys = file.keys.filter((o) => o !== k); }),
    "The trust file lists no recorder."],
};

// ---- Facts: each takes the streams of the case, and throws where it does not apply
const all = (m) => [...m.values()].flat();
function one(m, kind, test = () => true) {
  const found = all(m).find((l) => l.r.kind === kind && test(l.r));
  if (!found) throw new Error("no " + kind);
  return found;
}
const set = (kind, change, test) => (m) => change(one(m, kind, test).r);
const put = (m, where, ...more) => {
  for (const l of m.values()) if (l.includes(where)) l.splice(l.indexOf(where), 1, ...more);
};
const out = (kind, test) => (m) => put(m, one(m, kind, test));
const twice = (kind, test) => (m) => { const f = one(m, kind, test); put(m, f, f, structuredClone(f)); };
const ran = (r) => r.intent !== undefined;
const FACTS = {
  "sealed again": [() => {}, "Nothing was changed; the evidence was sealed again."],
  "intent out": [out("intent"), "An intent was left out."],
  "intent twice": [twice("intent"), "An intent stands there twice, each at its own place."],
  "outcome twice": [twice("outcome", ran), "An outcome stands there twice, each at its own place."],
  "end twice": [twice("task_end"), "The end of a task stands there twice."],
  "start last": [(m) => {
    const start = one(m, "task_start"), [first] = m.values();
    put(m, start);
    first.splice(-1, 0, start);
  },
    "A task starts at the end of its stream."],
  "warned": [set("outcome", (r) => { r.decision.effect = "warn"; }, ran),
    "An outcome says that a rule warned, its intent says allow."],
  "routed by one": [set("intent", (r) => { r.decision.effect = "route"; }), "An intent says that its call was routed."],
  "result in an intent": [set("intent", (r) => { r.action.result = ZERO; }), "An intent has the digest of a result."],
  "expires out": [set("intent", (r) => { delete r.task.expires; }, (r) => r.task?.expires),
    "An intent names no end of its task."],
  "outer of none": [set("task_start", (r) => { r.task.outer = "elsewhere"; }),
    "A task names an outer task that is not there."],
  "monitored": [set("intent", (r) => { r.decision.mode = "monitor"; }),
    "An intent says monitor mode, its outcome does not."],
  "detail of text": [(m) => { one(m, "intent").detail = { _salt: newId() }; one(m, "intent").asIs = true; },
    "An intent has a detail."],
};

// ---- Book: a task with a part, an approval, a mark and a suspended call
const ALICE = { id: "alice@example.com", kind: "human", provenance: "asserted" };
const BOSS = { ...ALICE, id: "boss@example.com" };
const agent = (id) => ({ id, owner: "team@example.com" }), AGENTS = { clerk: agent("clerk"), helper: agent("helper") };
const range = (min, max, more = {}) => ({ constraint_type: "range", min, max, ...more });
const TOOLS = { pay: { amount: range(0, 100) }, read: {}, send: {} };
function grant(o, holder, parent) {
  const jti = `019ad072-0000-7000-8000-${String(++counter).padStart(12, "0")}`, { limits } = parent?.claims ?? {};
  const claims = {
    jti, iss: "urn:example:own", iat: T, exp: T + 3600, cnf: { jwk: KEYS[holder].jwk }, del_depth: 0, del_max_depth: 3,
    txn: "task-1", principal: ALICE, sub: ALICE.id, agent: AGENTS[holder], act: { sub: holder },
    authorization_details: [{ type: "attenuating_agent_token", tools: structuredClone(TOOLS) }],
  };
  if (parent) Object.assign(claims, {
    iss: "urn:ietf:params:oauth:jwk-thumbprint:sha-256:" + KEYS.clerk.kid, par_hash: parent.hash, del_depth: 1,
    act: { act: { sub: "clerk" }, sub: holder }, ...(limits && { limits }),
  });
  o[parent ? "child" : "root"]?.(claims);
  const key = o.signer && parent ? KEYS[o.signer] : KEYS[parent ? "clerk" : "issuer"];
  const token = jws(key, "aat+jwt", claims, parent ? {} : { kid: key.kid }), hash = tokenHash(token);
  return { token, hash, claims, chain: [...(parent?.chain ?? []), { id: holder, grant: hash }] };
}
function book(o) {
  const root = grant(o, "clerk"), child = grant(o, "helper", root), by = {}, list = [], approval = newId();
  const add = (label, kind, facts) => {
    by[label] = { r: { v: "1", id: newId(), kind, time: { start: `${T + 10 + list.length}${S}` }, ...facts } };
    list.push(by[label]);
    return by[label].r;
  };
  const under = (g, expires = { expires: `${g.claims.exp}${S}` }) =>
    ({ task: { id: "task-1", ...expires }, principal: ALICE, agent: g.claims.agent, chain: g.chain });
  const allow = { effect: "allow", enforced: "allow", mode: "enforce", reason: "within_scope" };
  const call = (label, g, seq, tool, { decision = allow, labels = [], after = seq, end = {}, ...more } = {}) => {
    const action = { kind: "function", tool, args: dig(tool === "read" ? label : tool) };
    const judged_at = { hop: root.hash, seq };
    const { id } = add(label, "intent", { ...under(g), action: { ...action, labels }, decision, judged_at, ...more });
    const marked = { label: "untrusted", mark_after: { label: "untrusted", seq: after } };
    return add(label + "!", "outcome", { ...under(g, {}), action: { ...action, result: dig(label) }, decision,
      intent: id, outcome: "success", ...marked, ...end });
  };
  const { certificate } = o;
  add("start", "stream_start", { sdk: { name: "book", version: "1" }, ...(certificate && { certificate }) });
  add("policy", "policy", { policy: { name: "p", version: "1", digest: dig("p"), flow: "flow-1" } });
  add("grant", "grant", { ...under(root), grant: { token: root.token } });
  add("mark", "mark", { ...under(root), mark: { hop: root.hash, seq: "1", label: "trusted", cause: "request" } });
  add("task", "task_start", { ...under(root), judged_at: { hop: root.hash, seq: "1" } });
  const first = call("read", root, "1", "read", { after: "2" }), paid = { tool: "pay", args: dig("pay") };
  const asked = { ...under(root), action: { kind: "function", ...paid } };
  add("asked", "approval", { ...asked, approval: { id: approval, status: "pending", request: dig("r") } });
  const ruling = { jti: approval, status: "approved", task: "task-1", ...paid, principal: ALICE, agent: AGENTS.clerk,
    approver: BOSS, iat: T + 10, exp: T + 900, iss: "urn:example:own", sources: [first.intent] };
  o.ruling?.(ruling);
  add("answer", "approval", { ...asked, approval: { id: approval, status: "approved", request: dig("r"), approver: BOSS,
    sources: ruling.sources, token: jws(KEYS[o.judge ?? "issuer"], "agent-approval+jwt", ruling) } });
  call("pay", root, "2", "pay", { decision: { ...allow, effect: "route", approval }, labels: ["payment"],
    provenance: [{ argument: "amount", provenance: "untrusted", destination: true }] });
  add("part", "grant", { ...under(child), grant: { token: child.token } });
  add("begun", "task_start", { ...under(child), judged_at: { hop: root.hash, seq: "2" } });
  call("inner", child, "2", "read");
  const waits = call("waits", root, "2", "read", { end: { outcome: "suspended" } });
  call("resumed", root, "2", "read", { resumes: waits.id });
  call("last", root, "2", "send", { labels: ["egress"],
    provenance: [{ argument: "to", provenance: "principal", destination: true }] });
  add("end", "task_end", { ...under(root), counts: { intents: "5", outcomes: "5", open: "0" } });
  add("close", "stream_end", { end: { size: String(list.length + 1) } });
  o.edit?.(by, list);
  list.at(-1).r.end.size = String(list.length);
  return new Map([[o.stream ?? newId(), list]]);
}
const made = (o = {}, options = {}) => (folder) => seal(book(o), folder, options);
const fact = (label, change) => made({ edit: (by) => change(by[label].r, by) });
const within = (parent, own) => made({ root: (c) => { c.authorization_details[0].tools.read = { a: parent }; },
  child: (c) => { c.authorization_details[0].tools.read = { a: own }; } });
const move = (label, after) => made({ edit: (by, list) => {
  list.splice(list.indexOf(by[label]), 1);
  list.splice(list.indexOf(by[after]) + 1, 0, by[label]);
} });
const certificate = (more = {}) => jws(KEYS.root, "agent-recorder-certificate+jwt", {
  recorder: KEYS.recorder.jwk, origin: LOG, nbf: T - 10, exp: T + 86400,
  issuer: { key: KEYS.issuer.jwk, uri: "urn:example:own" }, principals: ["human", "service"], ...more });
const rooted = (more, root = {}) => made({ certificate: certificate(more) },
  { keys: [entryOf("root", { origin: "surgery.example/", ...root })] });
/** The first `size` lines pruned or left out, the lines `hidden` withheld. */
const shortened = (size, { change = () => {}, hidden, left = 0 } = {}) => (folder) => {
  const id = newId();
  seal(book({ stream: id }), folder, { after: (f, states) => {
    const at = fileOf(f, id), text = readFileSync(at, "latin1").split("\n").slice(0, -1);
    write(text.map((l, i) => (hidden?.includes(i + 1) ? withheld(l) : l)).slice(size - left).join("\n") + "\n", at);
    const of = { origin: LOG, stream: id, time: `${T + 95}${S}`, grants: { count: "0", digest: dig("") },
      log: { size: "1", root: ZERO } };
    const about = { size: String(size), ...states.get(`${id} ${size}`) };
    const facts = { ...about, ...(hidden ? { end: String(text.length) } : of) };
    change(facts);
    if (hidden) write(canonical({ streams: { [id]: facts }, v: "1" }), f, "excerpt.json");
    else write(note(KEYS.recorder, `agent-identity pruned v1\n${canonical(facts)}\n`), f, "ledger", id, "pruned");
  } });
};
const pathWithin = (root) => ({ constraint_type: "path_within", root });
const urlWithin = (prefix) => ({ constraint_type: "url_within", prefix });
const limits = (max) => made({ root: (c) => { c.limits = [{ kind: "uses", tool: "read", max }]; } });
const BOOK = {
  "clean": [made(), "A ledger of our own."],
  "limit broken": [limits(2), "One use more than the limit allows."],
  "audience dropped": [made({ root: (c) => { c.aud = "here"; } }), "A child names no audience, its parent does."],
  "audience added": [made({ child: (c) => { c.aud = "here"; } }), "A child names an audience, its parent does not."],
  "whole number": [within(range(0, 2 ** 70), range(0, 5)), "A bound is a whole number beyond 2^64."],
  "by itself": [made({ signer: "helper" }), "A child is signed by its own holder."],
  "open under closed": [made({ child: (c) => { c.authorization_details[0].tools.pay = {}; } }),
    "A child drops all constraints of a tool."],
  "bound included": [within(range(0, 9, { max_inclusive: false }), range(0, 9)),
    "A child includes a bound that its parent excludes."],
  "path with a slash": [within(pathWithin("/a"), pathWithin("/a/")), "Roots differ by a slash."],
  "url with a port": [within(urlWithin("https://x.example/v1"), urlWithin("HTTPS://X.example:443/v1/a")),
    "A URL in another spelling."],
  "ruling by a stranger": [made({ judge: "stranger" }), "A stranger ruled."],
  "ruling with a claim": [made({ ruling: (r) => { r.note = "x"; } }), "A ruling has an unknown claim."],
  "ruling for fewer": [made({ ruling: (r) => { r.sources = [newId()]; } }), "A ruling names another input."],
  "approved after": [move("answer", "pay!"), "The answer stands behind the call, which then had read."],
  "mark dropped": [made({ edit: (by, list) => list.splice(list.indexOf(by.mark), 1) }),
    "The first mark of a task was left out."],
  "task before mark": [move("mark", "task"), "A task starts before its first mark."],
  "mark of the part": [fact("inner", (r) => { r.judged_at.hop = r.chain[1].grant; }),
    "A call of a part was judged at a mark of the part."],
  "to nobody": [fact("last", (r) => { delete r.provenance; }), "A call with consequences has no destination."],
  "no policy": [made({ edit: (by, list) => list.splice(list.indexOf(by.policy), 1) }), "The stream names no policy."],
  "resumed by a tool": [made({ edit: (by) => {
    for (const n of ["resumed", "resumed!"]) by[n].r.action.tool = "send";
  } }), "Another tool goes on."],
  "resumed from an end": [fact("resumed", (r, by) => { r.resumes = by["read!"].r.id; }),
    "A call goes on from one that had ended."],
  "part after the end": [move("end", "begun"), "A task ends before calls of its own."],
  "same id": [fact("last", (r, by) => { by["last!"].r.intent = r.id = by.read.r.id; }),
    "An intent has the id of an earlier one."],
  "certified": [rooted({}), "A root certified the keys."], "certified elsewhere": [rooted({ origin: LOG + "2" }),
    "For another log."],
  "certified for services": [rooted({ principals: ["service"] }), "The certificate is for services only."],
  "root revoked": [rooted({}, { revoked_since: T + 50 }), "The root was revoked after the certificate."],
  "pruned": [shortened(6), "The first records were pruned, without their grant."],
  "pruned, a line left": [shortened(6, { left: 1 }), "One pruned line is still there."],
  "pruned, other peaks": [shortened(6, { change: (s) => { s.peaks[0] = ZERO; } }), "A statement has another peak."],
  "pruned, other last": [shortened(6, { change: (s) => { s.last = ZERO; } }), "A statement has another last record."],
  "excerpt": [shortened(7, { hidden: [] }), "An excerpt of the later records."],
  "excerpt, withheld": [shortened(6, { hidden: [8, 17, 18] }), "An excerpt withholds records in between."],
  "excerpt, other end": [shortened(6, { hidden: [], change: (s) => { s.end = "9"; } }),
    "An excerpt names an end that is no head."],
  "head of another log": [made({}, { log: (l) => [...l, { ...l[0], origin: LOG + "2" }] }),
    "An entry names another log."],
  "log lost": [made({}, { log: (l) => [{ lost: "checkpoint", origin: LOG }, ...l] }),
    "The log says that its checkpoint was lost."],
  "sealed by a stranger": [made({}, { recorder: KEYS.stranger }), "A stranger sealed the ledger."],
};

const [source, target] = process.argv.slice(2), list = [];
if (!source || !target) throw new Error("usage: node surgeries.mjs CASE_FOLDER OUT_FOLDER");
function attempt(table, name, what, make) {
  const folder = `${table}-${name.replace(/[^a-z]+/g, "-")}`, at = join(target, folder);
  mkdirSync(at, { recursive: true });
  try { make(at); list.push({ name: folder, what }); } catch (error) {
    rmSync(at, { recursive: true });
    console.error(`${folder} does not apply: ${error.message}`);
  }
}
for (const [name, [change, what]] of Object.entries(BYTES)) {
  attempt("bytes", name, what, (at) => { cpSync(source, at, { recursive: true }); change(at); });
}
const issuers = JSON.parse(readFileSync(join(source, "trust.json"))).keys.filter((k) => k.purpose === "issuer");
for (const [name, [change, what]] of Object.entries(FACTS)) attempt("facts", name, what, (at) => {
  const streams = new Map();
  for (const id of readdirSync(join(source, "ledger"))) {
    const text = readFileSync(join(source, "ledger", id, "entries.jsonl"), "utf8").split("\n").slice(0, -1);
    streams.set(id, text.map((l) => { const { record: r, detail } = JSON.parse(l); return { r, detail }; }));
  }
  change(streams);
  for (const l of streams.values()) if (l.at(-1).r.kind === "stream_end") l.at(-1).r.end.size = String(l.length);
  seal(streams, at, { keys: [...issuers, entryOf("recorder")] });
});
for (const [name, [make, what]] of Object.entries(BOOK)) attempt("book", name, what, make);
writeFileSync(join(target, "list.json"), JSON.stringify(list, null, 1) + "\n");
console.log(`${list.length} surgeries`);
