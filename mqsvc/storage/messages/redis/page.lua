-- One page of a selection. Gives messages.
-- needs: listing showing

local include = {delayed = args.delayed, claimed = args.claimed}
if not args.hide then
  return cmsgpack.pack(show(base, listing(base, args.after, args.limit, include)))
end

-- Where to go on behind the messages of the hidden client; nothing, where nobody else
-- posted after them.
local function leap(message)
  if message.client ~= args.hide then
    return position_of(message.id)
  end
  local runs = redis.call(
    'ZRANGEBYSCORE', base .. ':runs', '(' .. text_of(message.run), '+inf',
    'LIMIT', 0, 1)
  return runs[1] and tonumber(runs[1]) - 1
end

local found, after = {}, args.after
while after and #found < args.limit do
  local seen = listing(base, after, args.limit, include)
  for _, message in ipairs(seen) do
    if message.client ~= args.hide then
      push(found, message)
    end
  end
  after = #seen == args.limit and leap(seen[#seen])
end
return cmsgpack.pack(show(base, cut(found, args.limit)))
