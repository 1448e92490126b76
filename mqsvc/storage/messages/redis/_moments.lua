-- When something ends. The registry has, for each destination, a moment before which
-- nothing does: so one look tells most operations that nothing is due.

local WAITING = {'delayed', 'claimed'}

-- A sweep looks at this destination from a moment on, or earlier.
local function visit(destination, moment)
  redis.call('ZADD', registry, 'LT', text_of(moment), destination)
end

local is_behind

-- Whether anything may have become due in the destination; looked up once in a call.
local function is_due()
  if is_behind == nil then
    local moment = redis.call('ZSCORE', registry, base)
    is_behind = moment and tonumber(moment) <= now
  end
  return is_behind
end

-- What is due in a sorted set scored by moments, up to so many.
local function due(key, limit)
  return redis.call('ZRANGEBYSCORE', key, '-inf', text_of(now), 'LIMIT', 0, limit)
end
