for at = 2, #KEYS do
  local arg = 3 + (at - 2) * 6
  local expires, parts = counter(KEYS[at])
  if expires <= now then
    redis.call('DEL', KEYS[at])
    expires, parts = 0, {}
  end
  if tonumber(ARGV[arg]) >= (parts[0] or 0) then redis.call('HSET', KEYS[at], '0', ARGV[arg]) end
  if tonumber(ARGV[arg + 4]) > expires then redis.call('HSET', KEYS[at], 'expires', ARGV[arg + 4]) end
  if redis.call('PTTL', KEYS[at]) < tonumber(ARGV[arg + 5]) then redis.call('PEXPIRE', KEYS[at], ARGV[arg + 5]) end
end
wrote()
return answer(1)
