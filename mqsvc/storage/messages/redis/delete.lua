-- Delete messages by id, where the claims given allow it. Gives 'deleted', or why not:
-- 'free', 'ended' or 'claimed'.

-- Why a message must not be deleted, if so. `ends` is when its claim ends.
local function refusal(message, ends, given, any_live)
  if not ends or tonumber(ends) <= now then
    return #args.claims > 0 and 'free'
  end
  if given[message.claim] then
    return false
  end
  return #args.claims > 0 and not any_live and 'ended' or 'claimed'
end

local messages = existing(base, args.ids)
local ids = ids_of(messages)
if args.claims then
  local given, any_live = {}, false
  for _, claim in ipairs(args.claims) do
    given[claim] = true
    any_live = any_live or live(base, claim) ~= nil
  end
  local ends = fetch('ZMSCORE', base .. ':claimed:due', ids)
  for index, message in ipairs(messages) do
    local reason = refusal(message, ends[index], given, any_live)
    if reason then
      return cmsgpack.pack(reason)
    end
  end
end
remove(base, messages)
return cmsgpack.pack('deleted')
