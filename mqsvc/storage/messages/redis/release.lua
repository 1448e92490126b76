-- End a claim; one that is not live is left alone. What was not delivered does not
-- count.
-- needs: claims states lending

local claim = live(base, args.claim)
if claim then
  local messages = held(base, args.claim, claim.ids)
  local ids = ids_of(messages)
  for _, message in ipairs(messages) do
    message.claim = ''
    message.count = message.count - (args.undelivered and 1 or 0)
  end
  redis.call('HDEL', base .. ':claims', args.claim)
  redis.call('ZREM', base .. ':claims:due', args.claim)
  displace(base, messages)
  place(base, 'ready', ids)
  update(base, messages)
end
return cmsgpack.pack(true)
