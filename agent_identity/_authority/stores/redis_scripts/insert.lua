local expires = redis.call('GET', KEYS[2])
if expires and tonumber(expires) > now then return answer(0) end
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
redis.call('HINCRBY', KEYS[1], 'news', 1)
wrote()
return answer(1)
