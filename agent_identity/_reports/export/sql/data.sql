-- Systems and resources that agents touched: the rows of "report data".
WITH done AS (
  SELECT * FROM calls WHERE NOT opening AND NOT of_model
), touched AS (
  SELECT *, 'declared' AS basis,
         unnest(from_json(resources, '[{"system":"VARCHAR","name":"VARCHAR","access":"VARCHAR"}]')) AS resource FROM done
  UNION ALL
  SELECT *, 'observed' AS basis,
         unnest(from_json(observed, '[{"system":"VARCHAR","name":"VARCHAR","access":"VARCHAR"}]')) AS resource FROM done
)
SELECT coalesce(agent, '') AS agent, resource.system AS system, resource.name AS name, resource.access AS access, basis,
       count(*) FILTER (ran) AS calls,
       count(*) FILTER (refused) AS refused,
       coalesce(min(time_ns) FILTER (ran), 0) AS first_ns,
       coalesce(max(time_ns) FILTER (ran), 0) AS last_ns
FROM touched
GROUP BY ALL
ORDER BY ALL;
