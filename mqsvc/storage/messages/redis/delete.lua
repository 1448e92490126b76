-- Delete messages by id, where the claims given allow it. Gives 'deleted', or why not:
-- 'free', 'ended' or 'claimed'.
-- needs: claims removal

local given = {}

local function is_any_live()
  for claim in pairs(given) do
    if live(base, claim) then
      return true
    end
  end
end

-- Why a message must not be deleted, if so. `ends` is when its claim ends.
local function refusal(message, ends)
  if not ends or tonumber(ends) <= now then
    return next(given) and 'free'
  end
  message.state = 'claimed'
  if not given[message.claim] then
    return next(given) and not is_any_live() and 'ended' or 'claimed'
  end
end

local messages = existing(base, args.ids)
if args.claims then
  for _, claim in ipairs(args.claims) do
    given[claim] = true
  end
  local ends = fetch('ZMSCORE', base .. ':claimed:due', ids_of(messages))
  for index, message in ipairs(messages) do
    local reason = refusal(message, ends[index])
    if reason then
      return cmsgpack.pack(reason)
    end
  end
end
remove(base, messages)
return cmsgpack.pack('deleted')
