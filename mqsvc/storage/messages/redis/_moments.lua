-- When something ends. The registry has, for each destination, a moment before which
-- nothing does: so one look tells most operations that nothing is due.

local WAITING = {'delayed', 'claimed'}

-- That of the destination of a call, once it was looked up; without any, after all.
local soonest

-- Whether anything may have become due in the destination.
local function is_due()
  soonest = soonest or tonumber(redis.call('ZSCORE', registry, base) or math.huge)
  return soonest <= now
end

-- A sweep looks at this destination from a moment on, or earlier.
local function visit(destination, moment)
  if not (soonest and destination == base and soonest <= moment) then
    redis.call('ZADD', registry, 'LT', text_of(moment), destination)
  end
end

-- What is due in a sorted set scored by moments, up to so many.
local function due(key, limit)
  return redis.call('ZRANGEBYSCORE', key, '-inf', text_of(now), 'LIMIT', 0, limit)
end
