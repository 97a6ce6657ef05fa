// Files of a directory: log, checkpoint, streams (ledger.md; record.md, rules 1 to 7).
import { lstatSync, readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { constants, crc32, inflateRawSync } from "node:zlib";
import { MEMBER, has, isDigest, isExcerpt, isId, isJws, isObject, isClosure, isPosition, isStatement, readCanonical, readDetail, readEntry, readJson,
  readRecord } from "./form.mjs";
import { Range, b64u, cosigned, fromB64, fromB64u, leafHash, noteSigners, readNote, sha256 } from "./crypto.mjs";
import { NS } from "./trust.mjs";
const isDenied = (error) => ["EACCES", "EPERM"].includes(error.code);
/** Whether the system permits to read what this reads; otherwise that is `unreadable`. */
export function mayRead(e, read, at) {
  try { read(); return true; } catch (error) {
    if (!isDenied(error)) throw error;
    e.report("unreadable", at);
    return false;
  }
}
function attempt(f) { // undefined: there is none
  try { return f(); } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(error.code)) return undefined;
    throw error;
  }
}
const list = (...path) => (attempt(() => readdirSync(join(...path))) ?? []).sort();
/** The content of the first gzip member (RFC 1952) as { bytes, damaged }: damaged if it is not whole, or not alone. */
function expand(raw) {
  const flags = raw[3], nothing = { bytes: Buffer.alloc(0), damaged: true };
  if (raw.readUIntBE(0, 3) !== 0x1f8b08 || flags & 0xe0) return nothing;
  let at = flags & 4 ? 12 + raw.readUInt16LE(10) : 10;
  for (const text of [8, 16]) if (flags & text) at = raw.indexOf(0, at) + 1; // name and comment
  if (flags & 2 && raw.readUInt16LE(at) !== (crc32(raw.subarray(0, at)) & 0xffff)) return nothing;
  if (flags & 2) at += 2;
  const how = { info: true, maxOutputLength: 2 ** 32 - 1, finishFlush: constants.Z_SYNC_FLUSH };
  const inflate = (to) => { try { return inflateRawSync(raw.subarray(at, to), how); } catch { return undefined; } };
  let good = at, bad = raw.length + 1; // what the first `good` bytes give, of data that are damaged inside
  while (bad - good > 1) { const to = bad > raw.length ? raw.length : (good + bad) >> 1;
    if (inflate(to)) good = to; else bad = to; if (good === raw.length) break; }
  const { buffer: bytes, engine } = inflate(good) ?? { buffer: Buffer.alloc(0), engine: {} };
  const end = at + engine.bytesWritten;
  const whole = raw.length === end + 8 && raw.readUInt32LE(end) === crc32(bytes) &&
    raw.readUInt32LE(end + 4) === bytes.length;
  return { bytes, damaged: !whole };
}
/** A file as { bytes, damaged }, as far as it can be read; undefined if there is none. */
export function readFile(...path) {
  const at = join(...path), found = attempt(() => lstatSync(at)), size = found?.size;
  const nothing = { size, bytes: Buffer.alloc(0), damaged: true };
  if (!found) return undefined;
  if (!found.isFile()) return { ...nothing, irregular: true };
  try {
    const bytes = attempt(() => readFileSync(at));
    return { size, ...(at.endsWith(".gz") ? expand(bytes) : { bytes, damaged: false }) };
  } catch (error) {
    if (isDenied(error)) throw error;
    return nothing;
  }
}
function split(bytes) { // lines of a file, several blank ones as one, and what stands after the last newline
  const lines = [];
  let from = 0;
  for (let to; (to = bytes.indexOf(10, from)) >= 0; from = to + 1) {
    if (to > from || lines.at(-1)?.length !== 0) lines.push(bytes.subarray(from, to));
  }
  return { lines, torn: bytes.subarray(from) };
}
/** A line as { record, leaf, detail }, { leaf } of a withheld one, or {} without the form of one ("Streams"). */
function frame(line, withholds) {
  const s = line.length <= MEMBER ? line.toString("latin1") : "", withheld = /^\{"leaf":"([^"]{43})"\}$/.exec(s)?.[1];
  if (withheld) return withholds && isDigest(withheld) ? { leaf: fromB64u(withheld) } : {};
  const end = s.startsWith('{"detail":{') ? s.indexOf('},"mac":"') + 1 : 0; // of the detail
  const m = /^\{"mac":"([^"]{43})","record":(\{.*\})\}$/s.exec(end ? "{" + s.slice(end + 1) : s);
  if (!m || !isDigest(m[1])) return {};
  const record = Buffer.from(m[2], "latin1");
  return { record, leaf: leafHash(record), detail: end ? line.subarray(10, end) : undefined };
}
export function readLog(e) { // the entries of the log: null for a line that is none
  const file = readFile(e.folder, "log", "entries.jsonl"), { lines, torn } = split(file?.bytes ?? Buffer.alloc(0));
  if (file?.damaged && file.bytes.length) e.report("unreadable");
  e.tornLog = torn.length > 0;
  e.log = lines.map((line) => {
    const s = line.length <= MEMBER ? line.toString("latin1") : "";
    const m = /^\{"entry":(\{.*\}),"mac":"([^"]{43})"\}$/s.exec(s);
    if (!m || !isDigest(m[2])) return null;
    const entry = Buffer.from(m[1], "latin1");
    return { leaf: leafHash(entry), entry: readEntry(entry) };
  });
  const aside = list(e.folder, "log").filter((name) => /^rejected(-[1-9])?\.jsonl$/.test(name));
  if (aside.some((name) => readFile(e.folder, "log", name).bytes.length)) e.report("log_rejected"); // ledger 3
}
function parseCheckpoint(bytes) { // a checkpoint { note, origin, size, root }, or null
  const note = readNote(bytes), [origin, size, root, ...more] = note?.lines ?? [];
  if (!origin || !/^(0|[1-9][0-9]{0,18})$/.test(size) || fromB64(root)?.length !== 32 || more.includes("")) return null;
  return { note, origin, size: BigInt(size), root: b64u(fromB64(root)) };
}
/** Whether a certified key has a certificate that surely comes from its root. */
export const isSound = (key) => !key.certified?.every((c) => c.doubtful);
export function readCheckpoint(e) { // ledger 2
  const file = readFile(e.folder, "log", "checkpoint"), used = e.log.length || e.tornLog || e.streams.size;
  if (!file) return e.report(used || list(e.folder, "keys").includes("ledger.key") ? "log_missing" : "no_checkpoint");
  if (file.irregular) return e.report("no_checkpoint");
  e.checkpoint = parseCheckpoint(file.bytes);
  if (!e.checkpoint) return e.report("bad_checkpoint");
  if (!e.trust) return;
  const { note, origin } = e.checkpoint, { good, bad } = noteSigners(note, origin, e.trust.recorders());
  e.checkpoint.keys = good; e.proved = good.some(isSound) && !bad;
  if (bad) e.report("bad_signature");
  else if (!good.length) e.report("unknown_key");
  if (good.length && !good.some((k) => e.trust.signsFor(k, origin))) e.report("wrong_origin");
}
export function readWitnesses(e) { // Ledger 6: cosignatures by witnesses, as states of the log that others know
  const folder = join(e.folder, "log", "witnesses"), witnesses = e.trust.witnesses();
  const all = e.trust.of("witness").length, notes = [e.checkpoint];
  mayRead(e, () => {
    const names = list(folder).filter((name) => /^[0-9a-f]{16}\.checkpoint$/.test(name));
    notes.push(...names.map((name) => parseCheckpoint(readFile(folder, name).bytes)));
  });
  if (!e.checkpoint || !all) return; // e.seen: how much of the log witnesses saw, and in which second
  const quorum = e.trust.file.quorum ?? all, whole = new Set(), part = new Set();
  for (const one of notes.filter((n) => n?.origin === e.checkpoint.origin)) {
    for (const w of witnesses.filter((k) => !e.checkpoint.keys.some((r) => r.x === k.x))) {
      const time = cosigned(one.note, w);
      if (time === undefined || !e.trust.valid(w, time * NS)) continue;
      e.states.push(one);
      if (one.size > 0n || e.checkpoint.size === 0n) part.add(w);
      e.seen.push({ size: one.size, time });
      if (one.size >= e.checkpoint.size) whole.add(w);
    }
  }
  if (!e.proved) return;
  if (part.size < quorum) e.report("not_witnessed");
  else if (whole.size < quorum) e.report("tail_unwitnessed");
}
export function judgeLog(e) { // ledger 3 to 5
  const { size = 0n, origin, root } = e.checkpoint ?? {}, tree = new Range(), roots = new Map([[0n, tree.root()]]);
  for (const key of e.trust?.of("recorder") ?? []) {
    const { takes_over: state } = key;
    if (!state || (key.origin ?? e.trust.origin) !== origin) continue;
    e.states.push({ size: BigInt(state.size), root: state.root });
  }
  let unsealed = e.tornLog, ahead = false, whole = true;
  for (const line of e.log) {
    const covered = tree.size < size, entry = line?.entry;
    if (!line) {
      if (covered) whole = e.proved = false;
      e.report(covered || !e.checkpoint ? "log_malformed" : "log_rejected"); continue;
    }
    tree.push(line.leaf);
    if (whole) roots.set(tree.size, tree.root());
    const of = e.heads.get(entry?.stream) ?? [], last = of.at(-1);
    const head = entry?.stream && { size: BigInt(entry.size), root: entry.root, at: tree.size };
    if (!covered) {
      unsealed = true; ahead ||= Boolean(e.checkpoint && head && !(head.size <= last?.size));
    } else if (!entry) e.report("log_malformed");
    else {
      if (entry.origin !== origin) e.report("wrong_origin"); // a head all the same
      else if (entry.lost) e.report("log_lost");
      if (!head) continue;
      const shrank = last && (head.size < last.size || (head.size === last.size && head.root !== last.root));
      if (shrank) e.report("log_shrank", { stream: entry.stream });
      else e.heads.set(entry.stream, of).get(entry.stream).push(head);
    }
  }
  if (tree.size < size) { e.report("log_cut"); e.proved = false; }
  else if (e.checkpoint && whole && roots.get(size) !== root) { e.report("log_changed"); e.proved = whole = false; }
  const lacks = (s) => s.size > tree.size || (whole && roots.get(s.size) !== s.root);
  if (e.states.some((s) => s !== e.checkpoint && lacks(s))) e.report("rolled_back");
  if (unsealed) e.report("log_unsealed");
  if (ahead) e.report("log_ahead");
}
export function readExcerpt(e) { // ledger 14
  const file = readFile(e.folder, "excerpt.json"), small = file?.bytes.length <= 2 ** 24;
  const parts = small ? readCanonical(file.bytes) : undefined;
  if (!file) return;
  e.report("excerpt"); e.partial = e.excerpted = true;
  if (isExcerpt(parts)) e.excerpt = parts.streams;
  else e.report("bad_excerpt");
}
export function readStreams(e) {
  for (const id of list(e.folder, "ledger").filter(isId)) {
    if (!attempt(() => statSync(join(e.folder, "ledger", id)))?.isDirectory()) continue;
    const stream = { id, lines: [], records: [], torn: 0, damaged: false, begun: false, statement: undefined };
    e.streams.set(id, stream);
    if (mayRead(e, () => readStream(e, stream), { stream: id })) continue;
    Object.assign(stream, { lines: [], denied: true });
    e.denied = e.partial = true;
  }
}
function readStream(e, stream) { // ledger.md, "Segments"
  const folder = join(e.folder, "ledger", stream.id), names = list(folder);
  const isSegment = (n) => /^entries-(?!0{20})[0-9]{20}\.jsonl(\.gz)?$/.test(n) &&
    !(n.endsWith(".gz") && names.includes(n.slice(0, -3)));
  const files = [...names.filter(isSegment), ...names.filter((n) => n === "entries.jsonl")];
  stream.statement = readFile(folder, "pruned"); stream.closure = readFile(folder, "closure");
  stream.files = files.map((name) => {
    const file = readFile(folder, name), { lines, torn } = split(file.bytes);
    const parsed = lines.map((line) => frame(line, has(e.excerpt ?? {}, stream.id)));
    const seq = parsed[0]?.record && readJson(parsed[0].record)?.stream?.seq; // a record or not
    const first = /\d{20}/.exec(name)?.[0] ?? (isPosition(seq) ? seq : undefined);
    return { ...file, name, torn, first: first && BigInt(first),
      lines: parsed.map((parts) => ({ ...parts, r: parts.record && readRecord(parts.record) })) };
  });
  compose(stream, !files.length && !stream.statement);
}
function compose(stream, damaged) { // the lines of all its files, up to damage
  Object.assign(stream, { lines: [], torn: 0, damaged });
  const last = stream.files.findLastIndex((f) => f.size);
  for (const [i, { lines, torn, damaged: spoiled }] of stream.files.entries()) {
    if (stream.damaged) break;
    for (const line of lines) stream.lines.push(line);
    if (i >= last) stream.torn ||= torn.length;
    else if (torn.length && !spoiled) stream.lines.push({}); // an earlier file was torn: a line without the form of one
    stream.damaged = spoiled;
  }
  if (stream.damaged) stream.torn = 0;
  stream.begun = stream.lines.length > 0;
}
/** Ledger 12 and 13: the statement about pruned records, if it says where the stream begins. */
function judgeStatement(e, stream) {
  const at = { stream: stream.id }, note = readNote(stream.statement.bytes), s = note &&
    readCanonical(note.lines[1] ?? "");
  const origin = e.trust?.origin ?? e.checkpoint?.origin, last = e.heads.get(stream.id)?.at(-1)?.size ?? 0n;
  const { good, bad } = note && e.trust ? noteSigners(note, origin, e.trust.recorders()) : {};
  if (!note || note.lines.length !== 2 || note.lines[0] !== "agent-identity pruned v1" || !isStatement(s) || bad ||
    s.stream !== stream.id || s.origin !== origin || BigInt(s.size) > last) return e.report("bad_pruning", at);
  e.keptLacks++; // one statement more whose grants are not here, until they are taken
  if (!e.trust) return s;
  const own = good.filter((k) => e.trust.signsFor(k, origin)), sound = own.filter((k) => !has(k, "revoked_since"));
  if (!own.length) e.report("unknown_key", at);
  else if (!sound.length) e.report("key_revoked", at);
  else if (!sound.some((k) => !k.certified || e.trust.valid(k, BigInt(s.time)))) e.report("key_not_valid_then", at);
  else {
    if (sound.every((k) => k.certified)) e.report("valid_by_own_clock", at);
    const kept = readFile(e.folder, "ledger", stream.id, `grants-${s.grants.digest}.jsonl`)?.bytes ?? Buffer.alloc(0);
    const { lines, torn } = split(kept), count = Number(s.grants.count);
    const tokens = [...lines, ...(torn.length ? [torn] : [])].map((line) => line.toString("latin1"));
    const fewer = tokens.every(isJws) && tokens.length < count;
    if (b64u(sha256(kept)) === s.grants.digest && tokens.length === count) {
      e.keptGrants.push(...tokens); e.keptLacks--;
    } else e.report(fewer ? "kept_grants_missing" : "kept_grants_changed", at);
  }
  return s;
}
function judgeClosure(e, stream) { // Ledger 17: what a closer saw of the stream, if that counts
  const at = { stream: stream.id }, note = readNote(stream.closure.bytes), c = note && readCanonical(note.lines[1] ?? "");
  const origin = e.trust?.origin ?? e.checkpoint?.origin;
  const { good, bad } = note && e.trust ? noteSigners(note, c?.origin, e.trust.of("closer")) : {};
  if (!note || note.lines.length !== 2 || note.lines[0] !== "agent-identity closure v1" || !isClosure(c) || bad ||
    c.stream !== stream.id || (e.trust?.origin && c.origin !== origin)) return e.report("bad_closure", at);
  const counts = (k) => !has(k, "revoked_since") && e.trust.signsFor(k, c.origin) && e.trust.valid(k, BigInt(c.time));
  return good?.some(counts) ? c : e.report("closure_not_counted", at);
}
function tellClosure(e, c, count, sealed, at) {
  e.report(!c.holds ? "bad_closure" : BigInt(c.size) > sealed ? "closed_tail" : "closed", at);
  if (c.holds && count > BigInt(c.size) && count > sealed) e.report("after_closure", at);
  return c.holds ? c : undefined;
}
/** Where the records of a stream begin; files that lie before it are set aside (ledger 12 and 15). */
function beginning(e, stream) {
  let start = e.excerpt?.[stream.id];
  if (!start && stream.statement && stream.files[0]?.first !== 1n) {
    start = judgeStatement(e, stream);
    if (start) {
      e.report("pruned", { stream: stream.id }); stream.pruned = e.partial = true;
      start.open?.forEach((id) => e.open.add(id));
    }
  }
  if (!start || start.size === "0") return { size: 0n, peaks: [] };
  const size = BigInt(start.size), isBefore = (f) => f.first <= size, before = stream.files.filter(isBefore);
  let place = before[0]?.first, leaf, left = Boolean(stream.pruned);
  for (const f of before) { // whether they hold the last pruned records
    left &&= f.first === place && !f.damaged && !f.torn.length;
    for (const line of f.lines) {
      left &&= Boolean(line.record) && (!leaf || readJson(line.record)?.stream?.prev === b64u(leaf));
      place++; leaf = line.leaf;
    }
  }
  if (before.length && !(left && place === size + 1n && leaf && b64u(leaf) === start.last)) {
    e.report("records_before_start", { stream: stream.id });
  }
  if (before.length) { stream.files = stream.files.filter((f) => !isBefore(f)); compose(stream, false); }
  return { size, last: start.last, peaks: start.peaks.map(fromB64u) };
}
export function walkStream(e, stream) { // Record 1 to 7 and ledger 7, 8 and 14
  const at = { stream: stream.id }, part = e.excerpt?.[stream.id], known = e.heads.get(stream.id) ?? [];
  const end = part && BigInt(part.end), heads = known.filter((h) => !part || h.size <= end);
  const lastHead = heads.at(-1)?.size ?? 0n, start = beginning(e, stream);
  if (stream.damaged && (heads.length || stream.begun)) e.report("unreadable", at);
  const tree = new Range(start.size, start.peaks), closing = stream.closure && !e.excerpted && judgeClosure(e, stream);
  const see = () => { if (closing && tree.size === BigInt(closing.size)) closing.holds = tree.root() === closing.root; };
  if (closing) { closing.holds = tree.size > BigInt(closing.size); see(); }
  const wanted = new Map(heads.map((h) => [h.size, h.root])), foreign = [];
  let led = 0n, broken = false, mismatch = false, place = start.size, count = start.size, before = start.last, placed,
    ended = false;
  const compare = () => {
    if (mismatch || !wanted.has(tree.size)) return;
    if (!broken && wanted.get(tree.size) === tree.root()) led = tree.size;
    else { mismatch = true; e.report("head_mismatch", at); }
  };
  compare();
  for (const { leaf, record, detail, r } of stream.lines) {
    count++;
    if (leaf) { tree.push(leaf); compare(); see(); }
    else { broken = true; e.report(count <= lastHead ? "malformed_line" : "malformed_tail",
      { ...at, seq: place + 1n }); } // record 2
    if (!r) {
      place++; placed = undefined;
      before = leaf && !record ? b64u(leaf) : undefined; // of a withheld line
      if (record) foreign.push({ place, record });
      continue;
    }
    const seq = BigInt(r.stream.seq), hash = b64u(leaf), here = { ...at, seq, record: r.id };
    if (r.stream.id !== stream.id) { e.report("wrong_stream", here); continue; } // record 4
    if (seq <= place) { e.report(hash === before ? "duplicate_record" : "out_of_order", here); continue; } // record 5
    if (seq > place + 1n) e.report("missing_records", here);
    else if (before !== undefined && r.stream.prev !== before) e.report("changed_record", placed ?? here); // record 6
    place = seq; before = hash;
    placed = { r, stream, place, count, detail: judgeDetail(e, r, detail, here) };
    stream.records.push(placed);
    if (ended) e.report("after_end", placed); // record 7
    if (r.kind === "stream_end" && BigInt(r.end.size) !== place) e.report("missing_records", placed);
    ended ||= r.kind === "stream_end";
  }
  for (const one of stream.records) Object.assign(one, { sealed: one.place <= led, covered: one.place <= lastHead });
  for (const { place: seq, record } of foreign) { // record 1
    const v = readJson(record)?.v, later = typeof v === "string" && v !== "1" && !(seq <= lastHead && seq > led);
    e.report(later ? "unknown_record" : "malformed_record", { ...at, seq });
  }
  if (count < lastHead) e.report("records_cut", at); // ledger 7
  else if (part && !(wanted.has(led) && led === end)) e.report("bad_excerpt", at); // ledger 14
  stream.closing = closing && tellClosure(e, closing, count, lastHead, at); // ledger 17
  if (!stream.closing && !heads.length && stream.lines.length) e.report("stream_unknown", at); // ledger 8
  else if (!stream.closing && heads.length && stream.lines.length && count > lastHead) e.report("tail_unsealed", at);
  Object.assign(stream, { ended, headed: heads.length > 0 });
}
function judgeDetail(e, r, bytes, at) { // record 3
  const committed = r.kind === "outcome" ? r.detail : undefined, detail = bytes && readDetail(bytes);
  if (!bytes) { if (committed) e.report("detail_missing", at); }
  else if (!committed) e.report("detail_uncommitted", at);
  else if (b64u(sha256(bytes)) !== committed) e.report("detail_mismatch", at);
  else if (!detail) e.report("detail_malformed", at);
  else return detail;
}
export function judgeEnds(e) { // Ledger 7 and 8 to 11: missing and recovered streams, torn bytes and ends
  const named = new Map();
  for (const { r } of e.records) {
    if (r.kind === "recovered" && !(named.has(r.recovered.stream) &&
      r.recovered.rejected_bytes === "0")) named.set(r.recovered.stream, r.recovered);
  }
  for (const [id, { rejected_bytes: rejected }] of named) { // ledger 11
    e.report("recovered", { stream: id });
    if (rejected !== "0") e.report("rejected_tail", { stream: id });
  }
  for (const stream of [...e.streams.values()].filter((s) => !s.denied)) {
    const by = named.get(stream.id), at = { stream: stream.id };
    const told = (by && (by.torn_bytes === String(stream.torn) || by.rejected_bytes !== "0")) ||
      stream.closing?.torn === String(stream.torn);
    if (!stream.lines.length && !stream.headed && (!stream.torn || told)) { e.report("stream_empty", at); continue; }
    if (stream.torn && !told && !(stream.pruned && !stream.lines.length)) e.report("torn_tail", at); // ledger 9
    // ledger 10
    if (!stream.ended && !by && !stream.closing && !has(e.excerpt ?? {}, stream.id) && !(stream.pruned && !stream.lines.length)) e.report("no_end", at);
  }
}
