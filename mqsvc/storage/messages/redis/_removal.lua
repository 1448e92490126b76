-- needs: records states

-- Messages of a run are gone; a run without any is forgotten.
local function shrink(destination, run, count)
  local sizes = destination .. ':runs:sizes'
  if redis.call('HINCRBY', sizes, run, -count) <= 0 then
    redis.call('HDEL', sizes, run)
    redis.call('ZREM', destination .. ':runs', run)
  end
end

local function remove(destination, messages)
  local ids, lost, size = ids_of(messages), {}, 0
  for _, message in ipairs(messages) do
    lost[message.run] = (lost[message.run] or 0) + 1
    -- One that was stored before sizes were kept was never counted either.
    size = size + (message.size or 0)
  end
  displace(destination, messages)
  each('ZREM', destination .. ':expiry', ids)
  each('HDEL', destination .. ':records', ids)
  each('HDEL', destination .. ':bodies', ids)
  if size > 0 then
    redis.call('HINCRBY', destination .. ':info', 'bytes', text_of(-size))
  end
  for run, count in pairs(lost) do
    shrink(destination, text_of(run), count)
  end
end
