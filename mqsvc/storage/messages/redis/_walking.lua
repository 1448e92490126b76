-- needs: records

-- The first existing messages of a sorted set behind a position, or before it when
-- the command walks backwards.
local function walk(destination, part, from, limit, command)
  local found, piece = {}, limit
  local stop = command == 'ZREVRANGEBYSCORE' and '-inf' or '+inf'
  while true do
    local ids = redis.call(
      command or 'ZRANGEBYSCORE', destination .. ':' .. part,
      '(' .. text_of(from), stop, 'LIMIT', 0, piece)
    local more = existing(destination, ids, part)
    if #found == 0 then
      found = more
    else
      for _, message in ipairs(more) do
        push(found, message)
      end
    end
    if #ids < piece or #found >= limit then
      return found
    end
    from = position_of(ids[#ids])
    piece = math.min(2 * piece, MANY)
  end
end
