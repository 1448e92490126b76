-- Let a live claim end at another moment. Gives whether there is one.
-- needs: claims states lending

local claim = live(base, args.claim)
if not claim then
  return cmsgpack.pack(false)
end
local ends = now + args.ttl * 1000
local messages = held(base, args.claim, claim.ids)
for _, message in ipairs(messages) do
  extend(message, ends)
end
update(base, messages)
await(base, 'claimed', ids_of(messages), ends)
keep_claim(base, args.claim, ends, claim.ids)
return cmsgpack.pack(true)
