-- Calls that began, and of which nothing says how they ended: the open calls of "report incident everything".
SELECT time_ns AS at_ns, record, task, agent, tool
FROM calls
WHERE outcome = 'unknown'
ORDER BY at_ns, record;
