-- needs: walking moments

local function cut(list, limit)
  for index = #list, limit + 1, -1 do
    list[index] = nil
  end
  return list
end

-- Messages behind a position whose delay or claim is over, though not yet moved.
local function overdue(destination, state, after)
  local ids = {}
  for _, id in ipairs(due(destination .. ':' .. state .. ':due', -1)) do
    if position_of(id) > after then
      push(ids, id)
    end
  end
  return existing(destination, ids, state)
end

-- The first messages behind a position: the free ones, and those of other states too
-- where `include` has them.
local function listing(destination, after, limit, include)
  local found = walk(destination, 'ready', after, limit)
  local sorted = true
  for _, state in ipairs(WAITING) do
    local more = {}
    if include[state] then
      more = walk(destination, state, after, limit)
    elseif is_due() then
      more = overdue(destination, state, after)
    end
    for _, message in ipairs(more) do
      push(found, message)
      sorted = false
    end
  end
  if not sorted then
    table.sort(found, function(one, other) return one.position < other.position end)
  end
  return cut(found, limit)
end
