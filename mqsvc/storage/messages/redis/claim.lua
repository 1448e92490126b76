-- Lend the oldest free messages to several claims, who asked first the oldest; under a rule
-- move those lent often enough to the target. Each part is {claim, now, ttl, grace, limit,
-- randoms}. Gives for each how many were moved, and the messages that the claim now holds.
-- needs: listing showing lending catching_up

local leases, rule, target = args.parts, args.rule, KEYS[4]

-- The messages of all claims, in the order of these.
local lent = {}

local function bury(messages, randoms)
  -- needs: removal storing recall
  local bodies = fetch('HMGET', base .. ':bodies', ids_of(messages))
  remove(base, messages)
  local tail = tail_of(target)
  local first = take(tail, #messages, false, now)
  for index, message in ipairs(messages) do
    local position = first + index - 1
    local ttl, expires = message.ttl, message.expires
    if rule.ttl then
      ttl, expires = rule.ttl, now + rule.ttl * 1000
    end
    enter(
      tail, new_id(position, randoms[index]), position, false, expires, ttl,
      message.created, 0, message.client, position, bodies[index])
  end
  store(tail)
  local moved = {}
  for index, lease in ipairs(leases) do
    moved[index] = lease.moved
  end
  remember(cmsgpack.pack(moved))
end

local function answer()
  local rows, last = show(base, lent), 0
  if #leases == 1 then
    return cmsgpack.pack({{leases[1].moved, rows}})
  end
  local answers = {}
  for index, lease in ipairs(leases) do
    local share = {}
    for place = 1, #lease.messages do
      share[place] = rows[last + place]
    end
    last = last + #share
    answers[index] = {lease.moved, share}
  end
  return cmsgpack.pack(answers)
end

-- Of a first try a claim itself is there, if it lent anything; how many were moved for
-- each is remembered, if any were. Gives whether there was one.
local function repeated(claims)
  local moved
  if rule then
    -- needs: recall
    moved = recall()
    moved = moved and cmsgpack.unpack(moved)
  end
  local is_known = moved
  for index, text in ipairs(redis.call('HMGET', base .. ':claims', unpack(claims))) do
    local lease = leases[index]
    lease.moved, lease.messages = moved and moved[index] or 0, {}
    if text then
      -- needs: claims
      local claim = alive(text)
      if claim then
        lease.messages = held(base, lease.claim, claim.ids)
        for _, message in ipairs(lease.messages) do
          push(lent, message)
        end
        -- Something is written, so that WAIT also waits for this connection.
        redis.call('HSET', base .. ':claims', lease.claim, text)
        is_known = true
      end
    end
  end
  return is_known
end

local function put_under(lease, message)
  message.claim = lease.claim
  message.count = message.count + 1
  extend(message, lease)
  push(lease.messages, message)
  push(lease.ids, message.id)
  push(lent, message)
end

-- Give each claim its share of what was found.
local function deal(found)
  local first, dead, randoms, lending = 1, {}, {}, {}
  for _, lease in ipairs(leases) do
    lease.ids = {}
    lease.ends = lease.now + lease.ttl * 1000
    for place = first, math.min(first + lease.limit - 1, #found) do
      local message = found[place]
      if rule and message.count >= rule.max_claim_count then
        lease.moved = lease.moved + 1
        push(dead, message)
        push(randoms, lease.randoms[lease.moved])
      else
        put_under(lease, message)
      end
    end
    first = first + lease.limit
    if #lease.ids > 0 then
      push(lending, lease)
    end
  end
  if #dead > 0 then
    bury(dead, randoms)
  end
  if #lent > 0 then
    displace(base, lent)
    place(base, 'claimed', ids_of(lent))
    update(base, lent)
    keep_claims(base, lending)
  end
end

local claims, limit = {}, 0
now = 0
for index, lease in ipairs(leases) do
  claims[index] = lease.claim
  now = math.max(now, lease.now)
  limit = limit + lease.limit
end
if not repeated(claims) then
  catch_up()
  deal(listing(base, 0, limit, {}))
end
return answer()
