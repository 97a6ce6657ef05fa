// Verifies many folders, each with a trust.json of its own: their paths come by lines on standard input, and one line
// of JSON goes out for each.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { verify } from "./verifier.mjs";
for (const folder of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  const { exit, findings } = verify(folder, join(folder, "trust.json"));
  console.log(JSON.stringify({ folder, exit, codes: findings.map((found) => found.code) }));
}
