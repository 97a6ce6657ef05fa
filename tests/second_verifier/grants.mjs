// Grants, chains of them, and rulings (grants.md; record.md, "Rulings").
import { canonical, closed, has, isAgent, isDigest, isIdentifier, isInteger, isLine, isObject, isPrincipal, isRuling,
  points, same } from "./form.mjs";
import { isPoint, jwsSignedBy, readHeader, readJws, thumbprint } from "./crypto.mjs";
import { isScope, isToolName, scopeInside } from "./constraints.mjs";
const DAY = 86400, URI = "urn:ietf:params:oauth:jwk-thumbprint:sha-256:"; // RFC 9278
const isHolder = (k) => isObject(k) && k.kty === "OKP" && k.crv === "Ed25519" && isPoint(k.x) && !has(k, "d") &&
  (!has(k, "alg") || ["EdDSA", "Ed25519"].includes(k.alg)) && (!has(k, "use") || k.use === "sig");
const limit = (kind, more, tool) => closed({ kind: (v) => v === kind, max: isInteger, tool, ...more });
const isAny = (v) => v === "*" || isToolName(v);
const LIMITS = [limit("uses", {}, isAny), limit("sum", { argument: (v) => isLine(v) && points(v) <= 128 }, isToolName),
  limit("rate", { per: (v) => isInteger(v) && v >= 1 && v <= 90 * DAY }, isAny)];
const areLimits = (all) => Array.isArray(all) && all.length >= 1 && all.length <= 64 &&
  all.every((l) => LIMITS.some((fits) => fits(l))) &&
    new Set(all.map(({ max, ...rest }) => canonical(rest))).size === all.length;
const isEntry = closed({ type: (v) => v === "attenuating_agent_token", tools: isScope });
const isUuid = (v) => typeof v === "string" && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(v);
const haveForm = closed({
  jti: isUuid, iss: isIdentifier, iat: isInteger, exp: isInteger, cnf: closed({ jwk: isHolder }), del_depth: isInteger,
  del_max_depth: isInteger, txn: isIdentifier, principal: isPrincipal, sub: isIdentifier, agent: isAgent, act: isObject,
  authorization_details: (v) => Array.isArray(v) && v.length === 1 && isEntry(v[0]),
}, { aud: isIdentifier, limits: areLimits, par_hash: isDigest });
export const areClaims = (c) => haveForm(c) && c.sub === c.principal.id && c.exp > c.iat && // step 3
  c.del_depth <= c.del_max_depth && c.del_max_depth <= 32;
const isBrief = ({ claims: c }) => c.exp - c.iat <= 90 * DAY;
const history = (grants) => grants.reduce((act, g) => ({ ...(act && { act }), sub: g.claims.agent.id }), undefined);
const toolsOf = (claims) => claims.authorization_details[0].tools;
function isUnder(grant, parent) { // whether a grant stands under its parent (steps 6 to 8)
  const c = grant.claims, p = parent.claims, holder = p.cnf.jwk.x, kid = thumbprint(holder);
  return (grant.header.kid ?? kid) === kid && jwsSignedBy(grant, holder) && areClaims(c) && isBrief(grant) &&
    c.iss === URI + kid && c.par_hash === parent.hash && c.del_depth === p.del_depth + 1 && c.del_depth <= p.del_max_depth &&
    c.del_max_depth <= p.del_max_depth && c.iat >= p.iat && c.exp <= p.exp && c.txn === p.txn &&
    same(c.principal, p.principal) && same(c.limits, p.limits) &&
    scopeInside(toolsOf(p), toolsOf(c));
}
/** Verifies a chain of tokens, root first, at the time of its root: { code } or { grants, issuer } (record 16). */
export function verifyChain(tokens, trust) {
  const bad = { code: "bad_grant" };
  if (tokens.length > 33 || tokens.reduce((n, t) => n + t.length, 0) > 256 * 1024) return bad;
  const header = readHeader(tokens[0]), kid = header?.kid, x = kid && trust.issuerKey(kid);
  if (!header) return bad;
  if (x === undefined) return { code: "unknown_issuer" };
  const grants = tokens.map((t) => readJws(t, "aat+jwt")), root = grants[0];
  if (!root || !jwsSignedBy(root, x) || !areClaims(root.claims) || !isBrief(root)) return bad;
  if (root.claims.del_depth !== 0 || has(root.claims, "par_hash")) return bad;
  for (const [i, grant] of grants.entries()) {
    if (!grant || (i > 0 && !isUnder(grant, grants[i - 1]))) return bad;
    if (!same(grant.claims.act, history(grants.slice(0, i + 1)))) return bad;
  }
  if (new Set(grants.map((g) => g.claims.jti)).size < grants.length) return bad;
  if (new Set(grants.map((g) => g.claims.aud).filter(Boolean)).size > 1) return bad;
  const issuer = trust.mayIssue(kid, root.claims.iss, root.claims.iat, [root.claims.principal.kind]);
  return issuer.code ? { code: issuer.code === "unknown_issuer" ? "unknown_issuer" : "bad_grant" } : { grants, issuer };
}
/** Verifies the ruling of an answer: { code } or { claims, issuer } (record 22). */
export function verifyRuling(token, trust) {
  const forged = { code: "approval_forged" }, kid = token && readHeader(token)?.kid;
  if (kid === undefined) return forged;
  const x = trust.issuerKey(kid);
  if (x === undefined) return { code: "unknown_issuer" };
  const jws = readJws(token, "agent-approval+jwt"), c = jws?.claims;
  if (!c || !jwsSignedBy(jws, x) || !isRuling(c) || c.exp <= c.iat || c.exp - c.iat > 30 * DAY) return forged;
  if (c.sources && new Set(c.sources).size < c.sources.length) return forged;
  const issuer = trust.mayIssue(kid, c.iss, c.iat, [c.principal.kind, c.approver.kind]);
  return issuer.code ? { code: issuer.code === "unknown_issuer" ? "unknown_issuer" : "approval_forged" } :
    { claims: c, issuer };
}
export function usesOf(token) { // the limits on uses that a grant states, whether its chain holds or not (record 18)
  const limits = token && readJws(token, "aat+jwt")?.claims.limits;
  return areLimits(limits) ? limits.filter((l) => l.kind === "uses") : [];
}
