-- needs: removal moments

-- Delete what expired and free what became due, up to so many of each kind; gives how
-- many that were in all.
local function correct(destination, limit)
  local ids = due(destination .. ':expiry', limit)
  local count = #ids
  remove(destination, existing(destination, ids, nil, true))
  for _, state in ipairs(WAITING) do
    ids = due(destination .. ':' .. state .. ':due', limit)
    count = count + #ids
    each('ZREM', destination .. ':' .. state .. ':due', ids)
    each('ZREM', destination .. ':' .. state, ids)
    place(destination, 'ready', ids)
  end
  local claims = due(destination .. ':claims:due', limit)
  each('HDEL', destination .. ':claims', claims)
  each('ZREM', destination .. ':claims:due', claims)
  return count + #claims
end
