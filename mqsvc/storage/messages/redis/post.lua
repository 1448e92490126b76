-- Append messages of several posts: each is {moment, client, new}, with the ttl, delay and
-- random part of the id of each message; their bodies are arguments. What the first one
-- posts to a second destination is in `also`. Gives the ids of each post.
-- needs: storing

local bodies = 1

local function append(tail, moment, client, new)
  local count, ids = #new / 3, {}
  local first, run = take(tail, count, client, moment)
  for index = 1, count do
    local position = first + index - 1
    local ttl, delay = new[3 * index - 2], new[3 * index - 1]
    local id = new_id(position, new[3 * index])
    enter(
      tail, id, position, delay > 0 and moment + delay * 1000, moment + ttl * 1000, ttl,
      moment, 0, client, run, ARGV[bodies + index])
    ids[index] = id
  end
  bodies = bodies + count
  return ids
end

local tail, ids = tail_of(base), {}
for index, part in ipairs(args.parts) do
  ids[index] = append(tail, unpack(part))
end
local answer = cmsgpack.pack(ids)
-- What is known before anything is written can be remembered by the same command that
-- tells whether there was a first try.
if not redis.call('SET', args.token, answer, 'NX', 'PX', REMEMBERED) then
  -- needs: recall
  return recall()
end
store(tail)
if args.also then
  local second = tail_of(KEYS[4])
  append(second, args.parts[1][1], args.parts[1][2], args.also)
  store(second)
end
return answer
