-- Messages as they are kept.

local function encode(message)
  return cmsgpack.pack(
    message.expires, message.ttl, message.created, message.count, message.client,
    message.run, message.claim, message.size)
end

local function decode(id, text, state)
  local expires, ttl, created, count, client, run, claim, size = cmsgpack.unpack(text)
  return {
    id = id, state = state, expires = expires, ttl = ttl, created = created,
    count = count, client = client, run = run, claim = claim, size = size,
  }
end

-- The messages among some ids that are there, in the order of the ids. Those that
-- expired are left out, unless they are asked for; where it is known, messages are told
-- the state they are in.
local function existing(destination, ids, state, with_expired)
  local found = {}
  local records = fetch('HMGET', destination .. ':records', ids)
  for index = 1, #ids do
    local text = records[index]
    local message = text and decode(ids[index], text, state)
    if message and (with_expired or message.expires > now) then
      found[#found + 1] = message
    end
  end
  return found
end

local function ids_of(messages)
  local ids = {}
  for index, message in ipairs(messages) do
    ids[index] = message.id
  end
  return ids
end
