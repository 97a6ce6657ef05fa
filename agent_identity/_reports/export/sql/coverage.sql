-- The share of recorded tool calls that a human answers for: the groups of "report coverage" without traces.
WITH done AS (
  SELECT *, principal_kind = 'human' AS is_human FROM calls WHERE NOT opening AND NOT of_model
), grouped AS (
  SELECT 'total' AS dimension, '' AS name, * FROM done
  UNION ALL SELECT 'agent', coalesce(agent, ''), * FROM done
  UNION ALL SELECT 'service', coalesce(service, ''), * FROM done
  UNION ALL SELECT 'week', strftime(time, '%G-W%V'), * FROM done
)
SELECT dimension, name,
       count(*) AS calls,
       count(principal) AS attributed,
       count(*) FILTER (is_human) AS human,
       count(*) FILTER (is_human AND principal_provenance = 'verified') AS verified_human,
       count(*) FILTER (refused) AS refused
FROM grouped
GROUP BY dimension, name
ORDER BY dimension, name;
