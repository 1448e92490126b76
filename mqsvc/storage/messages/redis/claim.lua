-- Lend the oldest free messages; under a rule move those lent often enough to the
-- target. Gives how many were moved, and the messages that the claim now holds.
-- needs: recall listing showing correction storing claims lending

local rule, target = args.rule, KEYS[4]

local function bury(messages)
  local ids = ids_of(messages)
  local bodies = fetch('HMGET', base .. ':bodies', ids)
  remove(base, messages)
  local size = 0
  for _, body in ipairs(bodies) do
    size = size + #body
  end
  local first = reserve(target, #messages, size)
  for index, message in ipairs(messages) do
    message.position = first + index - 1
    message.id = new_id(message.position, rule.randoms[index])
    message.run = message.position
    message.body = bodies[index]
    message.claim, message.count = '', 0
    if rule.ttl then
      message.ttl = rule.ttl
      message.expires = now + rule.ttl * 1000
    end
  end
  store(target, messages)
end

local function lend(messages)
  local ids, ends = ids_of(messages), now + args.ttl * 1000
  for _, message in ipairs(messages) do
    message.claim = args.claim
    message.count = message.count + 1
    extend(message, ends)
  end
  displace(base, messages)
  place(base, 'claimed', ids)
  await(base, 'claimed', ids, ends)
  update(base, messages)
  keep_claim(base, args.claim, ends, ids)
end

local function answer(moved, messages)
  return cmsgpack.pack({moved, show(base, messages)})
end

-- Of a first try the claim itself is there, if it lent anything; how many it moved is
-- remembered, if it moved any.
local moved, claim = rule and recall(), live(base, args.claim)
if claim then
  -- Something is written, so that WAIT also waits for this connection.
  redis.call('HSET', base .. ':claims', args.claim, claim.text)
end
if moved or claim then
  return answer(tonumber(moved or 0), claim and held(base, args.claim, claim.ids) or {})
end
catch_up()
local dead, lent = {}, {}
for _, message in ipairs(listing(base, 0, args.limit, {})) do
  push(rule and message.count >= rule.max_claim_count and dead or lent, message)
end
if #dead > 0 then
  bury(dead)
  remember(text_of(#dead))
end
if #lent > 0 then
  lend(lent)
end
return answer(#dead, lent)
