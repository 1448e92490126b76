-- Forget everything of a destination; Redis frees the memory in the background.
-- needs: recall project

local PARTS = {
  'info', 'ready', 'delayed', 'delayed:due', 'claimed', 'claimed:due', 'expiry',
  'records', 'bodies', 'claims', 'claims:due', 'runs', 'runs:sizes',
}

local answer = recall()
if answer then
  return answer
end
local next_position = tonumber(redis.call('HGET', base .. ':info', 'next'))
if next_position then
  local lowest = tonumber(redis.call('GET', floor) or 0)
  redis.call('SET', floor, text_of(math.max(next_position, lowest)))
end
local keys = {}
for index, part in ipairs(PARTS) do
  keys[index] = base .. ':' .. part
end
redis.call('UNLINK', unpack(keys))
redis.call('ZREM', registry, base)
local project = counted(base)
if project then
  redis.call('SREM', project, base)
end
return remember(cmsgpack.pack(true))
