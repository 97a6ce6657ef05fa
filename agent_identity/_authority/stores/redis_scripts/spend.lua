-- The keys of the counters come first, then, for a share, one for each counter that holds what is kept of it.
local function spend(count, share)
  local plans, kept = {}, {}
  for at = 2, count + 1 do
    local arg = 3 + (at - 2) * 6
    local amount, limit, window, wide = unpack({tonumber(ARGV[arg]), tonumber(ARGV[arg + 1]),
      tonumber(ARGV[arg + 2]), tonumber(ARGV[arg + 3])})
    local held = 0
    if share and window == 0 then
      local until_, amounts = counter(KEYS[at + count])
      if until_ > now then held = amounts[0] or 0 end
    end
    kept[at - 1] = held
    amount = math.max(0, amount - held)
    local expires, parts, latest = counter(KEYS[at])
    local plan = {anew = expires <= now, old = {}, part = 0, expires = expires, amount = amount}
    if plan.anew then parts, latest, plan.expires = {}, 0, 0 end
    local moment, sum = math.max(now, latest * wide), 0
    for part, amount_ in pairs(parts) do
      if window > 0 and (part + 1) * wide <= moment - window then
        table.insert(plan.old, part)
      else
        sum = sum + amount_
      end
    end
    if amount > limit - sum then return at - 2 end
    if window > 0 then plan.part = math.floor(moment / wide) end
    plans[at] = plan
  end
  for at = 2, count + 1 do
    local arg, plan = 3 + (at - 2) * 6, plans[at]
    if plan.anew then redis.call('DEL', KEYS[at]) end
    for _, part in ipairs(plan.old) do redis.call('HDEL', KEYS[at], string.format('%.0f', part)) end
    redis.call('HINCRBY', KEYS[at], string.format('%.0f', plan.part), string.format('%.0f', plan.amount))
    if tonumber(ARGV[arg + 4]) > plan.expires then redis.call('HSET', KEYS[at], 'expires', ARGV[arg + 4]) end
    if redis.call('PTTL', KEYS[at]) < tonumber(ARGV[arg + 5]) then redis.call('PEXPIRE', KEYS[at], ARGV[arg + 5]) end
    if kept[at - 1] > 0 then redis.call('DEL', KEYS[at + count]) end
  end
  wrote()
  return kept
end
