-- Let a live claim end at another moment. Gives whether there is one.
-- needs: claims states lending

local claim = live(base, args.claim)
if not claim then
  return cmsgpack.pack(false)
end
local lease = args
lease.ends = now + lease.ttl * 1000
lease.ids = claim.ids
lease.messages = held(base, lease.claim, lease.ids)
for _, message in ipairs(lease.messages) do
  extend(message, lease)
end
update(base, lease.messages)
keep_claims(base, {lease})
return cmsgpack.pack(true)
