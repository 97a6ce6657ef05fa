for at = 2, #KEYS do
  local arg = 3 + (at - 2) * 6
  local left, window, wide = tonumber(ARGV[arg]), tonumber(ARGV[arg + 2]), tonumber(ARGV[arg + 3])
  local _, parts, latest = counter(KEYS[at])
  local first, order = 0, {}
  if window > 0 then first = math.floor(now / wide) end
  if window == 0 or (first + 1) * wide > latest * wide - window then
    for part in pairs(parts) do
      if part >= first then table.insert(order, part) end
    end
    table.sort(order)
    for _, part in ipairs(order) do
      local back = math.min(left, parts[part])
      if back > 0 then redis.call('HINCRBY', KEYS[at], string.format('%.0f', part), string.format('%.0f', -back)) end
      left = left - back
    end
  end
end
wrote()
return answer(1)
