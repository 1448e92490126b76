-- needs: records moments

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
