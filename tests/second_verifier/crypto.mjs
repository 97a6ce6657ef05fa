// Hashes, Merkle trees (RFC 6962), Ed25519, compact JWS and C2SP signed notes.
import { createHash, createPublicKey, verify as verifySignature } from "node:crypto";
import { canonical, isObject, readCanonical, utf8 } from "./form.mjs";
export const sha256 = (...parts) => parts.reduce((h, p) => h.update(p), createHash("sha256")).digest();
export const b64u = (bytes) => bytes.toString("base64url");
export const leafHash = (bytes) => sha256(Buffer.from([0]), bytes);
const nodeHash = (left, right) => sha256(Buffer.from([1]), left, right);
export class Range { // a compact range: the peaks of the tree over the first `size` leaves, the largest first
  constructor(size = 0n, peaks = []) { this.size = size; this.peaks = [...peaks]; }
  push(leaf) {
    this.peaks.push(leaf);
    for (let n = this.size; n & 1n; n >>= 1n) {
      const right = this.peaks.pop();
      this.peaks.push(nodeHash(this.peaks.pop(), right));
    }
    this.size++;
  }
  root() { return b64u(this.peaks.length ? this.peaks.reduceRight((right, left) => nodeHash(left, right)) :
    sha256("")); }
}
function decoded(encoding) { // bytes of text in its one spelling, or null
  return (s) => {
    const bytes = typeof s === "string" ? Buffer.from(s, encoding) : null;
    return bytes?.toString(encoding) === s ? bytes : null;
  };
}
export const fromB64u = decoded("base64url"), fromB64 = decoded("base64");
const P = 2n ** 255n - 19n, D = 37095705934669439343138083508754565189542113879843219016388785533085940283555n;
const number = (bytes) => BigInt("0x" + Buffer.from(bytes).reverse().toString("hex")) & (2n ** 255n - 1n);
const power = (b, e) => { let r = 1n; for (b %= P; e; e >>= 1n, b = b * b % P) if (e & 1n) r = r * b % P; return r; };
const SMALL = [0n, 1n, P - 1n, ...["26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"].map((h) => number(Buffer.from(h, "hex")))];
const known = new Map();
/** Whether x is the canonical base64url of a canonical point that is not of small order (grants.md 3). */
export function isPoint(x) {
  if (!known.has(x)) {
    const raw = fromB64u(x), y = raw?.length === 32 ? number(raw) : P, yy = y * y % P;
    known.set(x, y < P && !SMALL.includes(y) && power((yy - 1n + P) * (D * yy % P + 1n), (P - 1n) / 2n) <= 1n);
  }
  return known.get(x);
}
export const thumbprint = (x) => b64u(sha256(canonical({ crv: "Ed25519", kty: "OKP", x }))); // RFC 7638
export function signedBy(x, data, signature) {
  try {
    const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
    return signature.length === 64 && verifySignature(null, Buffer.from(data), key, signature);
  } catch { return false; }
}
/** Canonical JSON of a token, in which a whole number may have all its digits if a double holds it (grants.md). */
function readPart(bytes) {
  const whole = (t) => (t[0] === '"' ? t : BigInt(t) === BigInt(Number(t)) ? String(Number(t)) : "?");
  const plain = utf8(bytes)?.replace(/"(?:[^"\\]|\\.)*"|(?<![\d.eE+-])-?\d{16,}(?![\d.eE])/gs, whole);
  return plain === undefined ? undefined : readCanonical(plain);
}
const partsOf = (token, max) => (typeof token === "string" && token.length <= max ? token.split(".").map(fromB64u) :
  []);
/** The header of a compact JWS, { alg, typ } and perhaps { kid }, or null. */
export function readHeader(token, max = 65536) {
  const parts = partsOf(token, max), header = parts.length === 3 && parts.every((p) => p?.length) &&
    readCanonical(parts[0]);
  const closed = isObject(header) && Object.keys(header).every((k) => ["alg", "kid", "typ"].includes(k) &&
    typeof header[k] === "string");
  return closed && header.alg === "Ed25519" ? header : null;
}
/** { header, claims, input, signature, hash } of a compact JWS of this type, or null. */
export function readJws(token, type, max = 65536) {
  const header = readHeader(token, max), parts = partsOf(token, max), claims = header?.typ === type ?
    readPart(parts[1]) : null;
  if (!isObject(claims)) return null;
  const input = token.slice(0, token.lastIndexOf("."));
  return { header, claims, input, signature: parts[2], hash: tokenHash(token) };
}
export const jwsSignedBy = (jws, x) => signedBy(x, jws.input, jws.signature);
export const tokenHash = (token) => b64u(sha256(token.slice(0, token.lastIndexOf("."))));
/** { body, lines, signatures: [{ name, id, bytes }] } of a signed note of at most 64 KiB, or null. */
export function readNote(bytes) {
  const text = bytes.length <= 65536 ? utf8(bytes) : null, cut = text?.lastIndexOf("\n\n") ?? -1;
  if (cut < 0 || /[\x00-\x09\x0b-\x1f]/.test(text) || !text.endsWith("\n")) return null;
  const body = text.slice(0, cut + 1), signatures = [];
  for (const one of text.slice(cut + 2, -1).split("\n")) {
    const m = /^\u2014 ([^\s+]+) (\S+)$/u.exec(one), raw = m && fromB64(m[2]);
    if (!raw || raw.length < 5) return null;
    signatures.push({ name: m[1], id: raw.subarray(0, 4), bytes: raw.subarray(4) });
  }
  return { body, lines: body.slice(0, -1).split("\n"), signatures };
}
export const noteKeyId = (name, type, raw) => sha256(`${name}\n`, Buffer.from([type]), raw).subarray(0, 4);
/** Which of these keys (with x) signed the note under the name; bad: one of them did not over these bytes. */
export function noteSigners(note, name, keys) {
  const good = [];
  let bad = false;
  for (const s of note.signatures) {
    for (const key of keys) {
      if (s.name !== name || !s.id.equals(noteKeyId(name, 1, fromB64u(key.x)))) continue;
      if (signedBy(key.x, note.body, s.bytes)) good.push(key);
      else bad = true;
    }
  }
  return { good, bad };
}
/** The second in which a witness { name, id, x } cosigned the note, or undefined (C2SP tlog-cosignature). */
export function cosigned(note, witness) {
  for (const s of note.signatures) {
    if (s.name !== witness.name || !s.id.equals(witness.id) || s.bytes.length !== 72) continue;
    const time = s.bytes.readBigUInt64BE(0);
    if (signedBy(witness.x, `cosignature/v1\ntime ${time}\n${note.body}`, s.bytes.subarray(8))) return time;
  }
  return undefined;
}
