-- Granted and used, by agent and tool: the rows of "report scope".
WITH revoked AS (
  -- Issuer keys that are revoked at the end; calls under their grants are no use.
  SELECT name FROM revocations WHERE kind = 'key'
  GROUP BY name HAVING arg_max(status, (time_ns, status <> 'reinstated')) <> 'reinstated'
), roots AS (
  SELECT DISTINCT hash FROM grants WHERE depth = 0 AND issuer_kid IN (SELECT name FROM revoked)
), done AS (
  SELECT *, coalesce(grants[1] IN (SELECT hash FROM roots), false) AS is_revoked
  FROM calls WHERE NOT opening AND agent IS NOT NULL
), own AS (
  SELECT agent, tool,
         count(*) FILTER (ran) AS calls,
         count(*) FILTER (outcome = 'success' AND NOT would_be_refused) AS succeeded,
         count(*) FILTER (refused) AS refused,
         count(*) FILTER (effect = 'warn') AS warned,
         count(*) FILTER (would_be_refused) AS would_be_refused,
         count(*) FILTER (ran AND is_revoked) AS revoked_calls,
         count(DISTINCT principal) FILTER (ran) AS principals,
         min(time_ns) FILTER (ran AND NOT is_revoked) AS first_ns,
         max(time_ns) FILTER (ran AND NOT is_revoked) AS last_ns
  FROM done GROUP BY agent, tool
), hops AS (
  SELECT tool, time_ns, is_revoked, len(chain) AS length,
         unnest(range(1, len(chain) + 1)) AS place, unnest(chain) AS hop, unnest(grants) AS hash
  FROM done WHERE ran AND NOT would_be_refused
), below AS (
  SELECT hop AS agent, tool, count(*) AS calls, count(*) FILTER (is_revoked) AS revoked_calls,
         min(time_ns) FILTER (NOT is_revoked) AS first_ns, max(time_ns) FILTER (NOT is_revoked) AS last_ns
  FROM hops WHERE place < length GROUP BY hop, tool
), by_grant AS (
  SELECT hash, tool, count(*) FILTER (place = length) AS own,
         count(*) FILTER (place = length AND NOT is_revoked) AS used,
         count(*) FILTER (place < length AND NOT is_revoked) AS used_below
  FROM hops GROUP BY hash, tool
), permitted AS (
  SELECT hash, agent, tool, depth, time_ns, bool_and(argument IS NULL) AS open
  FROM grants WHERE tool IS NOT NULL GROUP BY hash, agent, tool, depth, time_ns
), granted AS (
  SELECT agent, permitted.tool,
         count(*) FILTER (depth = 0) AS root_grants,
         count(*) FILTER (depth > 0) AS delegations,
         count(*) FILTER (used > 0) AS grants_used,
         count(*) FILTER (coalesce(used, 0) = 0 AND used_below > 0) AS grants_used_by_descendants,
         count(*) FILTER (open) AS open_grants,
         coalesce(sum(own) FILTER (open), 0)::BIGINT AS calls_of_open_tool,
         min(time_ns) AS first_granted_ns, max(time_ns) AS last_granted_ns
  FROM permitted LEFT JOIN by_grant ON by_grant.hash = permitted.hash AND by_grant.tool = permitted.tool
  GROUP BY agent, permitted.tool
), keys AS (
  SELECT agent, tool FROM own UNION SELECT agent, tool FROM below UNION SELECT agent, tool FROM granted
)
SELECT agent, tool,
       coalesce(root_grants, 0) AS root_grants,
       coalesce(delegations, 0) AS delegations,
       coalesce(grants_used, 0) AS grants_used,
       coalesce(grants_used_by_descendants, 0) AS grants_used_by_descendants,
       coalesce(open_grants, 0) AS open_grants,
       coalesce(own.calls, 0) AS calls,
       coalesce(succeeded, 0) AS succeeded,
       coalesce(below.calls, 0) AS calls_by_descendants,
       coalesce(calls_of_open_tool, 0) AS calls_of_open_tool,
       coalesce(warned, 0) AS warned,
       coalesce(would_be_refused, 0) AS would_be_refused,
       coalesce(own.revoked_calls, 0) AS revoked_calls,
       coalesce(below.revoked_calls, 0) AS revoked_calls_by_descendants,
       coalesce(refused, 0) AS refused,
       coalesce(first_granted_ns, 0) AS first_granted_ns,
       coalesce(last_granted_ns, 0) AS last_granted_ns,
       coalesce(least(own.first_ns, below.first_ns), 0) AS first_used_ns,
       coalesce(greatest(own.last_ns, below.last_ns), 0) AS last_used_ns,
       coalesce(principals, 0) AS principals
FROM keys
LEFT JOIN own USING (agent, tool) LEFT JOIN below USING (agent, tool) LEFT JOIN granted USING (agent, tool)
ORDER BY agent, tool;
