local expires = redis.call('GET', KEYS[2])
return answer((expires and tonumber(expires) > now) and 1 or 0)
