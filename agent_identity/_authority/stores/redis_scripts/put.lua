local version = redis.call('HGET', KEYS[2], 'version')
if version and tonumber(version) >= tonumber(ARGV[3]) then return answer(0) end
redis.call('HSET', KEYS[2], 'version', ARGV[3], 'data', ARGV[4])
redis.call('HINCRBY', KEYS[1], 'news', 1)
wrote()
return answer(1)
