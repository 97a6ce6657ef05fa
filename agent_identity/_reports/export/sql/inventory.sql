-- Who and what took part in recorded calls: the counts of the items of "report inventory" that records show at work.
WITH took AS (
  SELECT *, row_number() OVER () AS number FROM calls
), served AS (
  -- The registered server of a tool; of several whose tool it can be, the longest.
  SELECT tool, max_by(server, length(server)) AS server
  FROM (SELECT DISTINCT tool FROM calls), (SELECT DISTINCT server FROM servers)
  WHERE starts_with(tool, server || '/') OR starts_with(tool, server || ':')
  GROUP BY tool
), touched AS (
  SELECT DISTINCT number, service, refused, resource.system || ' ' || resource.name AS name, resource.access,
         resource.digest, resource.data
  FROM (
    SELECT number, service, refused,
           unnest(from_json(coalesce(resources, '[]'),
                            '[{"system":"VARCHAR","name":"VARCHAR","access":"VARCHAR","digest":"VARCHAR","data":"VARCHAR[]"}]')
                  || from_json(coalesce(observed, '[]'),
                               '[{"system":"VARCHAR","name":"VARCHAR","access":"VARCHAR","digest":"VARCHAR","data":"VARCHAR[]"}]'))
           AS resource
    FROM took WHERE NOT opening
  )
), items AS (
  SELECT 'agent' AS kind, service, agent AS name, 1 AS calls, refused FROM took WHERE NOT opening AND agent IS NOT NULL
  UNION ALL
  SELECT 'agent', service, opened, 0, refused FROM took WHERE opened IS NOT NULL
  UNION ALL
  SELECT 'principal', service, principal, 1, refused FROM took WHERE NOT opening AND principal IS NOT NULL
  UNION ALL
  SELECT 'model', service, coalesce(model, tool), 1, refused FROM took WHERE NOT opening AND of_model
  UNION ALL
  SELECT 'tool', service, tool, 1, refused FROM took WHERE NOT opening AND NOT of_model
  UNION ALL
  SELECT 'server', service, server, 1, refused FROM took JOIN served USING (tool) WHERE NOT opening AND NOT of_model
  UNION ALL
  SELECT 'data', service, name, 1, refused FROM touched
), placed AS (
  -- What is named without a service belongs to the one service that names it.
  SELECT kind, name, calls, refused,
         CASE WHEN service IS NULL AND min(service) OVER same = max(service) OVER same
              THEN min(service) OVER same ELSE service END AS service
  FROM items
  WINDOW same AS (PARTITION BY kind, name)
)
SELECT kind, service, name, sum(calls)::BIGINT AS calls, count(*) FILTER (refused) AS refused
FROM placed
GROUP BY kind, service, name
HAVING sum(calls) > 0 OR count(*) FILTER (refused) > 0
ORDER BY ALL;
