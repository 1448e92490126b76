-- The first moment to come at which a delay or a claim ends. Gives it or false.
-- needs: records

-- The first such moment of a state; what expires before it does not count.
local function first_of(state)
  local piece, offset = 1, 0
  while true do
    local ids = redis.call(
      'ZRANGEBYSCORE', base .. ':' .. state .. ':due', '(' .. text_of(now), '+inf',
      'LIMIT', offset, piece)
    local found = existing(base, ids)[1]
    if found then
      return tonumber(redis.call('ZSCORE', base .. ':' .. state .. ':due', found.id))
    end
    if #ids < piece then
      return math.huge
    end
    offset = offset + piece
    piece = math.min(2 * piece, MANY)
  end
end

local moment = math.min(first_of('delayed'), first_of('claimed'))
return cmsgpack.pack(moment < math.huge and moment)
