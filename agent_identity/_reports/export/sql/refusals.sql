-- Refused calls, by agent, tool, reason, rule and argument: the refusals of "report scope".
SELECT agent, tool, reason, rule, argument, count(*) AS count
FROM calls
WHERE refused AND NOT opening AND agent IS NOT NULL
GROUP BY ALL
ORDER BY agent, tool, count DESC, reason, rule, argument;
