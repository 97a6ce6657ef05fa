// Constraints of a grant, and what may stand under what (constraints.md).
import { canonical, closed, has, isLine, isObject, points } from "./form.mjs";
const isText = (v, max) => typeof v === "string" && v !== "" && points(v) <= max;
const isFlag = (v) => typeof v === "boolean", isNumber = (v) => typeof v === "number";
const isScalar = (v) => v === null || typeof v !== "object";
const inside = (v) => (isScalar(v) ? [] : Object.values(v));
const parts = (v) => inside(v).reduce((n, x) => n + parts(x), 1);
const depth = (v) => (isScalar(v) ? 0 : 1 + Math.max(0, ...inside(v).map(depth)));
const texts = (v) => (typeof v === "string" ? [v] :
  [...inside(v).flatMap(texts), ...(isObject(v) ? Object.keys(v) : [])]);
const isArray = (v, max) => Array.isArray(v) && v.length >= 1 && v.length <= max;
const isValues = (v) => isArray(v, 1024) && parts(v) <= 1025;

// Paths, URLs and addresses
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}\u2044\u2215\u2216\u29F5\u29F8\u29F9\u3002\uFF61]/u;
const isPathCharacter = (c) => (c < "\x80" ? /[ -~]/.test(c) : !HIDDEN.test(c) &&
  !/[./\\%:~]/.test(c.normalize("NFKC")));
function readPath(p) { // a path as { absolute, names }, or null
  if (!isText(p, 4096) || p.trim() !== p || /^(\/\/|~)|\\|%([0-9a-f]{2}|u)|^[^/]*:/i.test(p)) return null;
  const names = p.split("/").filter((n) => n !== "" && n !== ".");
  if (![...p].every(isPathCharacter) || names.some((n) => n.trimStart().startsWith(".."))) return null;
  return { absolute: p[0] === "/", names };
}
const plainRoot = (p) => p.replace(/(.)\/$/, "$1");
const isRoot = (p) => readPath(p)?.absolute === true &&
  (p === "/" || !plainRoot(p).slice(1).split("/").some((n) => n === "" || n === "."));
function pathInside(root, p) {
  const outer = readPath(root).names, inner = readPath(p);
  return inner !== null && (!inner.absolute || outer.every((n, i) => n === inner.names[i]));
}
function readHost(h) { // a host in lower case, or null
  const labels = h.split(".");
  if (h.length > 253 || !labels.every((l) => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i.test(l))) return null;
  if (!/^(\d+|0x[0-9a-f]*)$/i.test(labels.at(-1))) return h.toLowerCase();
  return labels.length === 4 && labels.every((n) => /^(0|[1-9]\d{0,2})$/.test(n) && Number(n) <= 255) ? h : null;
}
const PATH = "A-Za-z0-9._~!$&'()*+,;=:@/%\\-";
const WEB = new RegExp(`^(https?)://([^/?#:@]*)(?::([1-9]\\d{0,4}))?(/[${PATH}]*)?(\\?[${PATH}?]*)?(#[${PATH}?]*)?$`,
  "i");
function readUrl(u) { // a URL as { place, path, plain: without query and fragment }, or null
  const m = typeof u === "string" && u.length <= 4096 ? WEB.exec(u) : null, host = m && readHost(m[2]);
  if (!host || Number(m[3] ?? 1) > 65535 || /%(?![0-9a-f]{2})/i.test(u)) return null;
  const path = m[4] ?? "/", scheme = m[1].toLowerCase();
  if (/%([01].|25|2E|2F|5C|7F|[89A-F].)/i.test(path) || /(^|\/)(\.(\/|$|;)|\.\.)/.test(path)) return null;
  return { place: `${scheme} ${host} ${m[3] ?? (scheme === "http" ? 80 : 443)}`, path, plain: !m[5] && !m[6] };
}
function urlInside(prefix, u) {
  const outer = readUrl(prefix), inner = readUrl(u);
  return inner !== null && outer.place === inner.place &&
    (inner.path === outer.path || inner.path.startsWith(outer.path.replace(/\/?$/, "/")));
}
const ADDRESS = /^([A-Za-z0-9#$&'*+/=?^_{|}~`-]+(?:\.[A-Za-z0-9#$&'*+/=?^_{|}~`-]+)*)@([^@]+)$/;
function domainOf(a) {
  const m = typeof a === "string" && a.length <= 254 ? ADDRESS.exec(a) : null;
  return m && m[1].length <= 64 ? readHost(m[2]) : null;
}
const domains = (c) => c.domains.map((d) => d.toLowerCase());

// In a grant: the members of each type
const isClauses = (v) => isArray(v, 64) && v.every((c) => isConstraint(c) && !has(c, "optional"));
const isDomain = (d) => typeof d === "string" && readHost(d) !== null;
const TYPES = {
  exact: closed({ value: isScalar }), wildcard: closed({}), prefix: closed({ prefix: (v) => isText(v, 8192) }),
  one_of: closed({ values: isValues }), not_one_of: closed({ excluded: isValues }),
  contains: closed({ required: isValues }), subset: closed({ allowed: isValues }),
  all: closed({ constraints: isClauses }), any: closed({ constraints: isClauses }), range: isRange,
  path_within: closed({ root: isRoot }, { follow_links: isFlag }),
  url_within: closed({ prefix: (v) => readUrl(v)?.plain === true }),
  email_domain: closed({ domains: (v) => isArray(v, 256) && v.every(isDomain) }),
};
function isRange(r) {
  const bounds = closed({}, { min: isNumber, max: isNumber, min_inclusive: isFlag, max_inclusive: isFlag });
  if (!bounds(r) || ["min", "max"].some((k) => has(r, k + "_inclusive") && !has(r, k))) return false;
  if (!has(r, "min") || !has(r, "max")) return has(r, "min") || has(r, "max");
  return r.min < r.max || (r.min === r.max && r.min_inclusive !== false && r.max_inclusive !== false);
}
function isConstraint(c) {
  if (!isObject(c) || !has(TYPES, c.constraint_type)) return false;
  const { constraint_type: type, optional = true, ...members } = c;
  return isFlag(optional) && TYPES[type](members);
}
const isArgument = ([name, c]) => isText(name, 128) && isLine(name) && isConstraint(c) && depth(c) <= 32 &&
  parts(c) <= 2048 &&
  texts(c).every((s) => points(s) <= 8192) && (name !== "*" ||
    (c.constraint_type === "wildcard" && !has(c, "optional")));
export const isToolName = (v) => typeof v === "string" && /^[A-Za-z0-9_.:/-]{1,128}$/.test(v);
export function isScope(tools) { // whether `tools` of a grant has its form
  return isObject(tools) && isArray(Object.keys(tools), 256) && Object.entries(tools).every(([tool, args]) =>
    isToolName(tool) && isObject(args) && Object.keys(args).length <= 64 &&
    Object.entries(args).every(isArgument));
}

// What may stand under what
const among = (values) => { const set = new Set(values.map(canonical)); return (v) => set.has(canonical(v)); };
function inRange(r, n, open = false) { // `open`: n is an excluded bound
  return isNumber(n) && (!has(r, "min") || n > r.min || (n === r.min && (open || r.min_inclusive !== false))) &&
    (!has(r, "max") || n < r.max || (n === r.max && (open || r.max_inclusive !== false)));
}
const rangeInside = (p, c) => ["min", "max"].every((k) => !has(p, k) ||
  (has(c, k) && inRange(p, c[k], c[k + "_inclusive"] === false)));
const fixed = (c, permits) => (c.constraint_type === "exact" ? permits(c.value) : c.constraint_type === "one_of" &&
  c.values.every(permits));
function covers(p, c) {
  const alike = p.constraint_type === c.constraint_type;
  switch (p.constraint_type) {
    case "wildcard": return true;
    case "exact": return alike && canonical(p.value) === canonical(c.value);
    case "one_of": return fixed(c, among(p.values));
    case "not_one_of": return alike && p.excluded.every(among(c.excluded));
    case "range": return alike ? rangeInside(p, c) : c.constraint_type === "exact" && inRange(p, c.value);
    case "contains": return alike && p.required.every(among(c.required));
    case "subset": return alike && c.allowed.every(among(p.allowed));
    case "all": return alike && p.constraints.every((one) => c.constraints.some((other) => covers(one, other)));
    case "any": return alike && c.constraints.every((other) => p.constraints.some((one) => covers(one, other)));
    case "path_within":
      if (p.follow_links) return alike && c.follow_links === true && plainRoot(p.root) === plainRoot(c.root);
      return alike ? !c.follow_links && pathInside(p.root, c.root) : fixed(c, (v) => pathInside(p.root, v));
    case "url_within": return alike ? urlInside(p.prefix, c.prefix) : fixed(c, (v) => urlInside(p.prefix, v));
    case "email_domain":
      return alike ? domains(c).every((d) => domains(p).includes(d)) :
        fixed(c, (v) => domains(p).includes(domainOf(v)));
    case "prefix":
      return alike ? c.prefix.startsWith(p.prefix) : fixed(c, (v) => typeof v === "string" && v.startsWith(p.prefix));
  }
}
const isOpen = (args) => Object.keys(args).every((k) => k === "*");
export function scopeInside(parent, child) { // whether a child's tools are within the parent's
  return Object.entries(child).every(([tool, args]) => {
    if (!has(parent, tool)) return false;
    const outer = parent[tool], names = Object.keys(outer).filter((k) => k !== "*");
    if (isOpen(outer)) return true;
    const kept = (k) => (has(args, k) ? covers(outer[k], args[k]) && (!args[k].optional || outer[k].optional) :
      outer[k].optional);
    return !isOpen(args) && names.every(kept) &&
      Object.keys(args).every((k) => has(outer, k) || (k !== "*" && has(outer, "*"))) &&
      (!has(args, "*") || names.every((k) => has(args, k)));
  });
}
