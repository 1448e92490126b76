-- A live claim. Gives {ttl, created, messages}, in a list that is empty without one.
-- needs: claims showing

local claim = live(base, args.claim)
if not claim then
  return cmsgpack.pack({})
end
local messages = held(base, args.claim, claim.ids)
return cmsgpack.pack({{claim.ttl, claim.created, show(base, messages)}})
