-- Lend the oldest free messages; under a rule move those lent often enough to the
-- target. Gives how many were moved, and the messages that the claim now holds.

local rule, target = args.rule, KEYS[4]

local function bury(messages)
  local ids = ids_of(messages)
  local bodies = fetch('HMGET', base .. ':bodies', ids)
  remove(base, ids)
  local first = reserve(target, #messages)
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
  displace(base, ids)
  place(base, 'claimed', ids)
  await(base, 'claimed', ids, ends)
  update(base, messages)
  keep_claim(base, args.claim, ends, ids)
end

-- The messages are read again, since a second try only remembers the number moved.
local function answer(moved)
  local claim = live(base, args.claim)
  local messages = claim and held(base, args.claim, claim.ids) or {}
  return cmsgpack.pack({tonumber(moved), show(base, messages)})
end

local moved = recall()
if moved then
  return answer(moved)
end
correct(base, CORRECTED)
local dead, lent = {}, {}
for _, message in ipairs(listing(base, 0, args.limit, {})) do
  push(rule and message.count >= rule.max_claim_count and dead or lent, message)
end
if #dead > 0 then
  bury(dead)
end
if #lent > 0 then
  lend(lent)
end
return answer(remember(text_of(#dead)))
