-- Append messages: for this destination, and maybe for a second one. Each is {ttl,
-- delay, random part of its id}, its body an argument. Gives the ids of the first.
-- needs: recall storing

local answer = recall()
if answer then
  return answer
end

local bodies = 1

local function append(destination, posting)
  local size = weight(bodies + 1, #posting)
  local first, run = reserve(destination, #posting, size, args.client)
  local messages = {}
  for index, new in ipairs(posting) do
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
      body = ARGV[bodies + index],
    }
  end
  bodies = bodies + #posting
  store(destination, messages)
  return ids_of(messages)
end

local ids = append(base, args.postings[1])
if args.postings[2] then
  append(KEYS[4], args.postings[2])
end
return remember(cmsgpack.pack(ids))
