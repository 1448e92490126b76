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
local function extend(message, lease)
  if message.expires < lease.ends then
    message.expires = lease.ends + lease.grace * 1000
    message.ttl = lease.ttl + lease.grace
    message.extended = true
  end
end

-- Write claims, each with the ids that it was made with and the messages that it holds.
local function keep_claims(destination, leases)
  local waiting, claims, ends, first_end = {}, {}, {}, math.huge
  for _, lease in ipairs(leases) do
    local score = text_of(lease.ends)
    for _, message in ipairs(lease.messages) do
      push(waiting, score, message.id)
    end
    push(
      claims, lease.claim,
      cmsgpack.pack(lease.ttl, lease.now, lease.ends, lease.ids))
    push(ends, score, lease.claim)
    first_end = math.min(first_end, lease.ends)
  end
  each('ZADD', destination .. ':claimed:due', waiting)
  each('HSET', destination .. ':claims', claims)
  each('ZADD', destination .. ':claims:due', ends)
  visit(destination, first_end)
end
