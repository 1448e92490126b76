-- Correct a bounded amount in the destinations where something is due. Gives whether
-- there may be more.
-- needs: correction

-- Entries of each kind in one destination, and about so many in all.
local AMOUNT = 200

-- When there is something to do next.
local function next_visit(destination)
  local moment = math.huge
  for _, part in ipairs({'expiry', 'delayed:due', 'claimed:due', 'claims:due'}) do
    local first = redis.call('ZRANGE', destination .. ':' .. part, 0, 0, 'WITHSCORES')
    moment = math.min(moment, tonumber(first[2]) or math.huge)
  end
  return moment
end

local left = AMOUNT
while left > 0 do
  local destination = due(registry, 1)[1]
  if not destination then
    return cmsgpack.pack(false)
  end
  left = left - 1 - correct(destination, AMOUNT)
  local moment = next_visit(destination)
  if moment < math.huge then
    redis.call('ZADD', registry, text_of(moment), destination)
  else
    redis.call('ZREM', registry, destination)
  end
end
return cmsgpack.pack(true)
