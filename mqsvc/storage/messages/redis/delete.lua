-- Delete messages by id, where the claims given allow it. Each part is {now, ids, claims},
-- and all or nothing. Gives for each 'deleted', or why not: 'free', 'ended' or 'claimed'.
-- needs: removal

local there, doomed = {}, {}

local function is_any_live(given)
  -- needs: claims
  for claim in pairs(given) do
    if live(base, claim) then
      return true
    end
  end
end

-- Why a message must not be deleted, if so.
local function refusal(message, given)
  if not message.ends or tonumber(message.ends) <= now then
    return next(given) and 'free'
  end
  message.state = 'claimed'
  if not given[message.claim] then
    return next(given) and not is_any_live(given) and 'ended' or 'claimed'
  end
end

local function outcome(part)
  local given = {}
  for _, claim in ipairs(part.claims or {}) do
    given[claim] = true
  end
  for _, id in ipairs(part.ids) do
    local reason = part.claims and there[id] and refusal(there[id], given)
    if reason then
      return reason
    end
  end
  for _, id in ipairs(part.ids) do
    push(doomed, there[id])
    there[id] = nil
  end
  return 'deleted'
end

local ids, is_careful = {}, false
now = 0
for _, part in ipairs(args.parts) do
  now = math.max(now, part.now)
  is_careful = is_careful or part.claims
  for _, id in ipairs(part.ids) do
    push(ids, id)
  end
end
local messages = existing(base, ids)
local ends = is_careful and fetch('ZMSCORE', base .. ':claimed:due', ids_of(messages))
for index, message in ipairs(messages) do
  there[message.id] = message
  message.ends = ends and ends[index]
end
local outcomes = {}
for index, part in ipairs(args.parts) do
  outcomes[index] = outcome(part)
end
remove(base, doomed)
return cmsgpack.pack(outcomes)
