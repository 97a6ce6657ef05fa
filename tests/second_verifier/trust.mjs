// Trust files and certificates of recorder keys (trust.md).
import { createPublicKey } from "node:crypto";
import { canonical, closed, has, isDigest, isObject, isPosition, readJson, text, utf8 } from "./form.mjs";
import { fromB64, fromB64u, isPoint, jwsSignedBy, noteKeyId, readJws, thumbprint } from "./crypto.mjs";
export const NS = 10n ** 9n; // nanoseconds of a second
const is = (...all) => (v) => all.includes(v), string = text(4096), second = (v) => Number.isSafeInteger(v) && v >= 0;
const noSpaces = (s) => !s.split("/").some((p) => ["", ".", ".."].includes(p));
const isName = (v) => string(v) && !v.endsWith("/");
const isOrigin = (v) => isName(v) || (string(v) && v.length > 1 && !v.slice(0, -1).split("/").includes(""));
const TIMES = { not_before: second, not_after: second }, LOST = { ...TIMES, revoked_since: second, reason: string };
const JWK = { kty: is("OKP"), crv: is("Ed25519"), x: isPoint, alg: is("EdDSA"), kid: string };
const takesOver = closed({ size: isPosition, root: isDigest });
const isWitness = (v) => string(v) && [4, 6].includes(readVkey(v)?.type);
function isCredential(v) { // its form alone: no code uses it
  const bytes = fromB64u(v);
  return bytes !== null && bytes.length >= 16 && bytes.length <= 1023;
}
const ENTRIES = {
  issuer: closed({ purpose: string, ...JWK }, { ...LOST, issuer: string }),
  recorder: closed({ purpose: string, ...JWK }, { ...LOST, origin: isOrigin, takes_over: takesOver }),
  closer: closed({ purpose: string, ...JWK }, { ...LOST, origin: isOrigin }),
  root: closed({ purpose: string, ...JWK, origin: isOrigin }, { ...LOST, issuer: string, recorders_only: is(true) }),
  policy: closed({ purpose: string, ...JWK }, LOST),
  witness: closed({ purpose: string, vkey: isWitness }, TIMES),
  approver: closed({ purpose: string, person: string, credential: isCredential, kty: is("EC", "OKP"), x: string,
    crv: is("P-256", "Ed25519"), alg: is("ES256", "EdDSA"), rp_id: string, site: string }, { ...LOST, y: string }),
};
function readVkey(v) { // a verifier key of a witness: { name, type, id, x }, or null
  const m = /^([^\s+]+)\+([0-9a-f]{8})\+(\S+)$/u.exec(v), raw = m && fromB64(m[3]), id = m && Buffer.from(m[2], "hex");
  if (!raw?.length || !noteKeyId(m[1], raw[0], raw.subarray(1)).equals(id)) return null;
  return { name: m[1], type: raw[0], id, x: raw.subarray(1).toString("base64url") };
}
function isEntry(k) {
  if (!isObject(k) || !has(ENTRIES, k.purpose) || !ENTRIES[k.purpose](k)) return false;
  if (k.purpose === "approver") { createPublicKey({ key: k, format: "jwk" }); return true; }
  return !(k.not_before > k.not_after) && (!has(k, "kid") || k.kid === thumbprint(k.x)) &&
    !(k.takes_over && k.origin?.endsWith("/"));
}
/** JSON.parse that refuses an object with one member twice: its text then has more names than the value. */
function parseOnce(source) {
  const members = (v) => (typeof v !== "object" || v === null ? 0 :
    Object.values(v).reduce((n, x) => n + members(x), isObject(v) ? Object.keys(v).length : 0));
  const value = readJson(source), texts = [...source.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?/gs)];
  const names = texts.filter((m) => m[1]).length;
  if (value === undefined || names !== members(value)) throw new SyntaxError("a member twice");
  return value;
}
const revision = (v) => Number.isSafeInteger(v) && v >= 1, strings = (v) => Array.isArray(v) && v.every(string);
const isFile = closed({ version: is("1"), id: text(256), revision, keys: (v) => Array.isArray(v) && v.every(isEntry) },
  { issuer: string, origin: string, quorum: revision, merged_from: strings, signature: string });
export function readTrust(bytes) { // the trust file of these bytes; throws on a file that readers refuse
  const file = bytes.length <= 1024 * 1024 ? parseOnce(utf8(bytes)) : null;
  if (!isFile(file) || (file.merged_from && file.signature)) throw new Error("form");
  const seen = file.keys.map((k) => `${k.purpose} ${k.kid ?? k.vkey ?? k.credential}`), trust = new Trust(file);
  const most = trust.of("witness").length;
  if (new Set(seen).size !== seen.length || most > 64 || file.quorum > most) throw new Error("keys");
  if (file.signature && !isSigned(file, trust)) throw new Error("signature");
  return trust;
}
function isSigned({ signature, ...file }, trust) {
  const place = (k) => 1 + ["approver", "witness"].indexOf(k.purpose), [head, none, tail] = signature.split(".");
  if (none !== "" || !tail || file.keys.some((k, i) => i && place(k) < place(file.keys[i - 1]))) return false;
  const payload = Buffer.from(canonical(file)).toString("base64url");
  const jws = readJws(`${head}.${payload}.${tail}`, "agent-trust+jwt", 2 ** 21);
  const root = trust.of("root").find((k) => k.kid === jws?.header.kid && !has(k, "revoked_since") && !k.recorders_only);
  return root !== undefined && jwsSignedBy(jws, root.x);
}
/** Whether the name of a log is this origin, or below this prefix. */
const covers = (own, origin) => own === origin ||
  (own.endsWith("/") && origin.startsWith(own) && noSpaces(origin.slice(own.length)));
const inTime = (k, ns) => !(ns < BigInt(k.not_before ?? 0) * NS) &&
  !(has(k, "not_after") && ns >= (BigInt(k.not_after) + 1n) * NS);
const certifiedAt = (c, ns) => ns >= BigInt(c.nbf) * NS && ns < BigInt(c.exp) * NS;
const isJwk = closed({ kty: is("OKP"), crv: is("Ed25519"), x: isPoint });
const kinds = (v) => Array.isArray(v) && ["human", "service", "human,service"].includes(v.join());
const isCertificate = closed({ recorder: isJwk, issuer: closed({ key: isJwk, uri: string }), origin: isName,
  principals: kinds, nbf: second, exp: second });
class Trust {
  constructor(file) { Object.assign(this, { file, keys: file.keys, origin: file.origin, certificates: [] }); }
  of(purpose) { return this.keys.filter((k) => k.purpose === purpose); }
  witnesses() { return this.of("witness").map((k) => ({ ...k, ...readVkey(k.vkey) })).filter((k) => k.type === 4); }
  /** Keys that get no further purpose by a certificate. */
  bound(x) { return [...this.keys, ...this.witnesses()].some((k) => k.x === x &&
    (has(k, "revoked_since") || /root|witness/.test(k.purpose))); }
  recorders() { // keys that may have signed a note of a log: those of the file, and certified ones
    const listed = this.of("recorder"), more = new Map();
    for (const c of this.certificates) more.set(c.recorder.x, [...(more.get(c.recorder.x) ?? []), c]);
    return [...listed, ...[...more].filter(([x]) => !listed.some((k) => k.x === x) &&
      !this.bound(x)).map(([x, certified]) => ({ x, certified }))];
  }
  signsFor(key, origin) { // whether the key may sign for this log
    if (key.certified) return key.certified.some((c) => c.origin === origin);
    return key.origin !== undefined ? covers(key.origin, origin) : this.origin === undefined || this.origin === origin;
  }
  valid(key, ns) { // whether the key is valid at this time, by its entry or a certificate
    return key.certified ? key.certified.some((c) => certifiedAt(c, ns)) : inTime(key, ns);
  }
  addCertificate(token) { // takes a certificate found in a record; returns whether it counts
    const jws = readJws(token, "agent-recorder-certificate+jwt", 8192), c = jws?.claims;
    if (!isCertificate(c) || c.issuer.key.x === c.recorder.x || c.exp <= c.nbf ||
      c.exp - c.nbf > 30 * 86400) return false;
    const root = this.of("root").find((k) => k.kid === jws.header.kid);
    if (!root || !jwsSignedBy(jws, root.x) || !inTime(root, BigInt(c.nbf) * NS) ||
      !covers(root.origin, c.origin)) return false;
    if ((root.issuer ?? c.issuer.uri) !== c.issuer.uri || c.nbf >= root.revoked_since) return false;
    this.certificates.push({ ...c, doubtful: has(root, "revoked_since") });
    return true;
  }
  certifiedIssuer(kid) { return this.certificates.filter((c) => thumbprint(c.issuer.key.x) === kid &&
    !this.bound(c.issuer.key.x)); }
  issuerKey(kid) { return (this.of("issuer").find((k) => k.kid === kid) ??
    this.certifiedIssuer(kid)[0]?.issuer.key)?.x; }
  /** Judges an issuer key that signed in this name, at this second, for these kinds of principals. */
  mayIssue(kid, uri, seconds, kindsOf) {
    const listed = this.of("issuer").find((k) => k.kid === kid), ns = BigInt(seconds) * NS;
    if (listed) {
      if ((listed.issuer ?? this.file.issuer ?? uri) !== uri) return { code: "wrong_issuer" };
      return inTime(listed, ns) ? { revoked: listed.revoked_since } : { code: "unknown_issuer" };
    }
    const named = this.certifiedIssuer(kid).filter((c) => c.issuer.uri === uri);
    const then = named.filter((c) => certifiedAt(c, ns));
    if (!named.length) return { code: "wrong_issuer" };
    if (!then.length) return { code: "unknown_issuer" };
    const able = then.filter((c) => kindsOf.every((k) => c.principals.includes(k)));
    return able.length ? { doubtful: able.every((c) => c.doubtful), certified: named } : { code: "wrong_principal" };
  }
  covering(issuer, ns) { return issuer.certified?.some((c) => certifiedAt(c, ns)) ?? true; }
}
