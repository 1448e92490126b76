-- needs: records moments

-- Write changed records, and the expiry of those that now live longer.
local function update(destination, messages)
  local records, expiry = {}, {}
  for _, message in ipairs(messages) do
    push(records, message.id, encode(message))
    if message.extended then
      push(expiry, text_of(message.expires), message.id)
    end
  end
  each('HSET', destination .. ':records', records)
  each('ZADD', destination .. ':expiry', expiry)
end

-- A message never expires under a claim: where it would, it lives for the grace after.
local function extend(message, ends)
  if message.expires < ends then
    message.expires = ends + args.grace * 1000
    message.ttl = args.ttl + args.grace
    message.extended = true
  end
end

local function keep_claim(destination, claim, ends, ids)
  redis.call(
    'HSET', destination .. ':claims', claim, cmsgpack.pack(args.ttl, now, ends, ids))
  redis.call('ZADD', destination .. ':claims:due', text_of(ends), claim)
  visit(destination, ends)
end
