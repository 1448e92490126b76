-- Lend the oldest free messages to several claims, who asked first the oldest; under a rule
-- move those lent often enough to the target. Each part is {claim, now, ttl, grace, limit,
-- randoms}. Gives for each how many were moved, and the messages that the claim now holds.
-- needs: listing showing lending catching_up

local leases, rule, target = args.parts, args.rule, KEYS[4]

local function bury(messages, randoms)
  -- needs: removal storing
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
end

local function lend(lending)
  local messages = {}
  for _, lease in ipairs(lending) do
    for index, message in ipairs(lease.messages) do
      lease.ids[index] = message.id
      message.claim = lease.claim
      message.count = message.count + 1
      extend(message, lease)
      push(messages, message)
    end
  end
  displace(base, messages)
  place(base, 'claimed', ids_of(messages))
  update(base, messages)
  keep_claims(base, lending)
end

local function answer()
  local messages, last = {}, 0
  for _, lease in ipairs(leases) do
    for _, message in ipairs(lease.messages) do
      push(messages, message)
    end
  end
  local rows, answers = show(base, messages), {}
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
local function repeated()
  local moved, ids = nil, {}
  if rule then
    -- needs: recall
    moved = recall()
    moved = moved and cmsgpack.unpack(moved)
  end
  for index, lease in ipairs(leases) do
    ids[index] = lease.claim
  end
  local is_known = moved
  for index, text in ipairs(redis.call('HMGET', base .. ':claims', unpack(ids))) do
    local lease = leases[index]
    lease.moved, lease.messages = moved and moved[index] or 0, {}
    if text then
      -- needs: claims
      local claim = alive(text)
      if claim then
        lease.messages = held(base, lease.claim, claim.ids)
        -- Something is written, so that WAIT also waits for this connection.
        redis.call('HSET', base .. ':claims', lease.claim, text)
        is_known = true
      end
    end
  end
  return is_known
end

-- Give each claim its share of what was found.
local function deal(found)
  local next_one, dead, randoms, moved, lending = 1, {}, {}, {}, {}
  for index, lease in ipairs(leases) do
    lease.ids = {}
    lease.ends = lease.now + lease.ttl * 1000
    for place = next_one, math.min(next_one + lease.limit - 1, #found) do
      local message = found[place]
      if rule and message.count >= rule.max_claim_count then
        lease.moved = lease.moved + 1
        push(dead, message)
        push(randoms, lease.randoms[lease.moved])
      else
        push(lease.messages, message)
      end
    end
    next_one = next_one + lease.limit
    moved[index] = lease.moved
    if #lease.messages > 0 then
      push(lending, lease)
    end
  end
  if #dead > 0 then
    bury(dead, randoms)
    -- needs: recall
    remember(cmsgpack.pack(moved))
  end
  if #lending > 0 then
    lend(lending)
  end
end

local limit = 0
now = 0
for _, lease in ipairs(leases) do
  now = math.max(now, lease.now)
  limit = limit + lease.limit
end
if not repeated() then
  catch_up()
  deal(listing(base, 0, limit, {}))
end
return answer()
