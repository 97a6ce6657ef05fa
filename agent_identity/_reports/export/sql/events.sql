-- Parties that were first seen together: the events of "report scope".
WITH done AS (
  SELECT * FROM calls WHERE ran AND NOT would_be_refused AND NOT opening AND agent IS NOT NULL
), served AS (
  -- The registered server of a tool; of several whose tool it can be, the longest.
  SELECT tool, max_by(server, length(server)) AS server
  FROM (SELECT DISTINCT tool FROM calls), (SELECT DISTINCT server FROM servers)
  WHERE starts_with(tool, server || '/') OR starts_with(tool, server || ':')
  GROUP BY tool
), touched AS (
  SELECT agent, time_ns, record,
         unnest(from_json(coalesce(resources, '[]'), '[{"system":"VARCHAR","name":"VARCHAR","access":"VARCHAR"}]')
                || from_json(coalesce(observed, '[]'), '[{"system":"VARCHAR","name":"VARCHAR","access":"VARCHAR"}]'))
         AS resource
  FROM done
), pairs AS (
  SELECT 'calls' AS relation, agent, tool AS other, time_ns, record FROM done
  UNION ALL SELECT 'active at', agent, strftime(time, '%A %H:00 UTC'), time_ns, record FROM done
  UNION ALL SELECT 'uses server', agent, server, time_ns, record FROM done JOIN served USING (tool)
  UNION ALL SELECT 'acts for', agent, principal, time_ns, record FROM done WHERE principal IS NOT NULL
  UNION ALL
  SELECT 'passes', agent, tool || '(' || array_to_string(list_sort(arguments), ', ') || ')', time_ns, record
  FROM done WHERE len(arguments) > 0
  UNION ALL
  SELECT DISTINCT CASE resource.access WHEN 'send' THEN 'sends to' ELSE resource.access || 's' END,
         agent, resource.system || ' ' || resource.name, time_ns, record
  FROM touched
  UNION ALL SELECT DISTINCT 'delegates to', chain[-2], agent, time_ns, record FROM grants WHERE depth > 0
  UNION ALL
  SELECT 'offers', server, tool || ' ' || coalesce(offered, pinned, '(no digest)'), time_ns, record
  FROM servers WHERE tool IS NOT NULL
)
SELECT relation, agent, other, min(time_ns) AS since_ns, count(*) AS count, min((time_ns, record))[2] AS record
FROM pairs
GROUP BY relation, agent, other
ORDER BY since_ns DESC, relation, agent, other;
