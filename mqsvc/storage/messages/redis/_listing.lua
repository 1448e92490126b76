-- needs: walking moments

local function cut(list, limit)
  for index = #list, limit + 1, -1 do
    list[index] = nil
  end
  return list
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
      -- needs: overdue
      more = overdue(destination, state, after)
    end
    for _, message in ipairs(more) do
      push(found, message)
      sorted = false
    end
  end
  if not sorted then
    -- Ids begin with positions.
    table.sort(found, function(one, other) return one.id < other.id end)
  end
  return cut(found, limit)
end
