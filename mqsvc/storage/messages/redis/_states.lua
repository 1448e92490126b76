-- needs: moments

local STATES = {'ready', 'delayed', 'claimed'}

local function place(destination, state, ids)
  local entries = {}
  for _, id in ipairs(ids) do
    push(entries, text_of(position_of(id)), id)
  end
  each('ZADD', destination .. ':' .. state, entries)
end

-- Take messages out of the state they are in; where it is not known, out of each.
local function displace(destination, messages)
  local ids = {ready = {}, delayed = {}, claimed = {}}
  for _, message in ipairs(messages) do
    if message.state then
      push(ids[message.state], message.id)
    else
      for _, state in ipairs(STATES) do
        push(ids[state], message.id)
      end
    end
  end
  each('ZREM', destination .. ':ready', ids.ready)
  for _, state in ipairs(WAITING) do
    if #ids[state] > 0 then
      each('ZREM', destination .. ':' .. state .. ':due', ids[state])
      each('ZREM', destination .. ':' .. state, ids[state])
    end
  end
end
