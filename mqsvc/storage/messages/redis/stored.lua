-- One page of everything, to be taken elsewhere. Gives {message, expires, end of its
-- delay}; the last is 0 when it is not delayed.
-- needs: listing showing

local everything = {delayed = true, claimed = true}
local messages = listing(base, args.after, args.limit, everything)
local rows = show(base, messages)
local ends = fetch('ZMSCORE', base .. ':delayed:due', ids_of(messages))
for index, message in ipairs(messages) do
  local delayed_until = tonumber(ends[index] or 0)
  if delayed_until <= now then
    delayed_until = 0
  end
  rows[index] = {rows[index], message.expires, delayed_until}
end
return cmsgpack.pack(rows)
