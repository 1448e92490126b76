-- needs: records moments project

-- How many bytes some of the arguments have.
local function weight(first, count)
  local size = 0
  for index = first, first + count - 1 do
    size = size + #ARGV[index]
  end
  return size
end

-- Take so many positions at the end, for bodies of so many bytes; gives the first one
-- and the run they belong to. Without a client there is no run: they are from several.
local function reserve(destination, count, size, client)
  local info = destination .. ':info'
  local known = redis.call('HMGET', info, 'next', 'client', 'run', 'bytes')
  -- Never before the clock: changes that Redis lost, by a crash or a failover, would
  -- otherwise have their positions given out again, behind markers that know them.
  local first = tonumber(known[1]) or tonumber(redis.call('GET', floor) or 0)
  first = math.max(now * 1000, first)
  local bytes = text_of(tonumber(known[4] or 0) + size)
  local project = not known[4] and counted(destination)
  if project then
    redis.call('SADD', project, destination)
  end
  local entries = {'next', text_of(first + count), 'bytes', bytes}
  local run = first
  if client and known[2] == client then
    run = tonumber(known[3])
  elseif client then
    push(entries, 'run', text_of(run))
    push(entries, 'client', client)
  else
    redis.call('HDEL', info, 'client')
  end
  redis.call('HSET', info, unpack(entries))
  return first, run
end

local function join_runs(destination, messages)
  local sizes = {}
  for _, message in ipairs(messages) do
    sizes[message.run] = (sizes[message.run] or 0) + 1
  end
  for run, size in pairs(sizes) do
    run = text_of(run)
    if redis.call('HINCRBY', destination .. ':runs:sizes', run, size) == size then
      redis.call('ZADD', destination .. ':runs', run, run)
    end
  end
end

-- Store new messages; those with `ready_at` are delayed until then.
local function store(destination, messages)
  local ready, delayed, waiting = {}, {}, {}
  local expiry, records, bodies = {}, {}, {}
  local first_end = math.huge
  for index, message in ipairs(messages) do
    local id, position, last = message.id, text_of(message.position), 2 * index
    if message.ready_at then
      push(delayed, position, id)
      push(waiting, text_of(message.ready_at), id)
      first_end = math.min(first_end, message.ready_at)
    else
      push(ready, position, id)
    end
    message.size = #message.body
    expiry[last - 1], expiry[last] = text_of(message.expires), id
    records[last - 1], records[last] = id, encode(message)
    bodies[last - 1], bodies[last] = id, message.body
    first_end = math.min(first_end, message.expires)
  end
  each('HSET', destination .. ':bodies', bodies)
  each('HSET', destination .. ':records', records)
  each('ZADD', destination .. ':expiry', expiry)
  each('ZADD', destination .. ':ready', ready)
  each('ZADD', destination .. ':delayed', delayed)
  each('ZADD', destination .. ':delayed:due', waiting)
  join_runs(destination, messages)
  visit(destination, first_end)
end

local function new_id(position, random)
  return string.format('%014x', position) .. random
end
