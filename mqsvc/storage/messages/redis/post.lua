-- Append messages: each is {ttl, delay, random part of its id}, its body an argument.
-- Gives the ids.

local answer = recall()
if answer then
  return answer
end
local first, run = reserve(base, #args.messages, args.client)
local messages = {}
for index, new in ipairs(args.messages) do
  local ttl, delay, random = unpack(new)
  local position = first + index - 1
  messages[index] = {
    id = new_id(position, random),
    position = position,
    expires = now + ttl * 1000,
    ready_at = delay > 0 and now + delay * 1000 or nil,
    ttl = ttl,
    created = now,
    count = 0,
    client = args.client,
    run = run,
    claim = '',
    body = ARGV[index + 1],
  }
end
store(base, messages)
return remember(cmsgpack.pack(ids_of(messages)))
