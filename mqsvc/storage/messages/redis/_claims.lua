-- needs: records

-- A claim, of what is kept of it, if it is live.
local function alive(text)
  if text then
    local ttl, created, ends, ids = cmsgpack.unpack(text)
    if ends > now then
      return {ttl = ttl, created = created, ids = ids}
    end
  end
end

local function live(destination, claim)
  return alive(redis.call('HGET', destination .. ':claims', claim))
end

-- What a live claim still holds, of the ids that it was made with.
local function held(destination, claim, ids)
  local found = {}
  local messages = existing(destination, ids, 'claimed')
  local ends = fetch('ZMSCORE', destination .. ':claimed:due', ids_of(messages))
  for index, message in ipairs(messages) do
    if message.claim == claim and ends[index] and tonumber(ends[index]) > now then
      push(found, message)
    end
  end
  return found
end
