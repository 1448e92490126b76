-- Gives {all, claimed, {oldest, newest}}; the last list is empty when nothing exists.
-- needs: walking showing

-- Above every position; the last whole number that is exact in a score.
local BEHIND_ALL = 9007199254740992

local after_now = '(' .. text_of(now)
local total = redis.call('ZCOUNT', base .. ':expiry', after_now, '+inf')
local claimed = redis.call('ZCOUNT', base .. ':claimed:due', after_now, '+inf')
local oldest, newest
for _, state in ipairs({'ready', 'delayed', 'claimed'}) do
  local first = walk(base, state, 0, 1)[1]
  if first and (not oldest or first.id < oldest.id) then
    oldest = first
  end
  local last = walk(base, state, BEHIND_ALL, 1, 'ZREVRANGEBYSCORE')[1]
  if last and (not newest or last.id > newest.id) then
    newest = last
  end
end
return cmsgpack.pack({total, claimed, show(base, {oldest, newest})})
