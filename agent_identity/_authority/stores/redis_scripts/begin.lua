-- Every script gets the facts of the whole state as its first key, and answers with its result, with how much was
-- ever written, and with the name that the state got when it began: a client that sees these go back knows that the
-- server has forgotten something. Numbers are written with %.0f, because Lua shortens large ones.
redis.call('HSETNX', KEYS[1], 'origin', ARGV[1])
local now = tonumber(ARGV[2])
local function answer(result)
  local facts = redis.call('HMGET', KEYS[1], 'writes', 'origin')
  return {result, tonumber(facts[1] or '0'), facts[2]}
end
local function wrote() redis.call('HINCRBY', KEYS[1], 'writes', 1) end
local function counter(key)
  local expires, parts, latest = 0, {}, 0
  local fields = redis.call('HGETALL', key)
  for at = 1, #fields, 2 do
    if fields[at] == 'expires' then
      expires = tonumber(fields[at + 1])
    else
      local part = tonumber(fields[at])
      parts[part] = tonumber(fields[at + 1])
      latest = math.max(latest, part)
    end
  end
  return expires, parts, latest
end
