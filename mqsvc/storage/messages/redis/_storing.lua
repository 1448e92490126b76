-- needs: moments

-- The end of a destination: where the next message goes and who posted last, with what
-- is to be stored there. Nothing is written yet.
local function tail_of(destination)
  local known = redis.call(
    'HMGET', destination .. ':info', 'next', 'client', 'run', 'bytes')
  local run = tonumber(known[3])
  return {
    destination = destination,
    next = tonumber(known[1]) or tonumber(redis.call('GET', floor) or 0),
    client = known[2], run = run, known_run = run,
    bytes = tonumber(known[4] or 0), is_new = not known[4],
    ready = {}, delayed = {}, waiting = {}, expiry = {}, records = {}, bodies = {},
    sizes = {}, first_end = math.huge,
  }
end

-- Take so many positions; gives the first one and the run they belong to. Without a
-- client there is no run: they are from several.
local function take(tail, count, client, moment)
  -- Never before the clock: changes that Redis lost, by a crash or a failover, would
  -- otherwise have their positions given out again, behind markers that know them.
  local first = math.max(moment * 1000, tail.next)
  tail.next = first + count
  if not client or tail.client ~= client then
    tail.client, tail.run = client, first
  end
  return first, tail.run
end

-- A new message, under no claim; with `ready_at` it is delayed until then.
local function enter(
  tail, id, position, ready_at, expires, ttl, created, count, client, run, body)
  local size, score, last = #body, text_of(position), #tail.expiry + 2
  if ready_at then
    push(tail.delayed, score, id)
    push(tail.waiting, text_of(ready_at), id)
    tail.first_end = math.min(tail.first_end, ready_at)
  else
    push(tail.ready, score, id)
  end
  tail.expiry[last - 1], tail.expiry[last] = text_of(expires), id
  tail.records[last - 1] = id
  tail.records[last] = cmsgpack.pack(expires, ttl, created, count, client, run, '', size)
  tail.bodies[last - 1], tail.bodies[last] = id, body
  tail.first_end = math.min(tail.first_end, expires)
  tail.bytes = tail.bytes + size
  tail.sizes[run] = (tail.sizes[run] or 0) + 1
end

local function move(tail)
  local destination, info = tail.destination, tail.destination .. ':info'
  if tail.is_new then
    -- needs: project
    local project = counted(destination)
    if project then
      redis.call('SADD', project, destination)
    end
  end
  local next, bytes = text_of(tail.next), text_of(tail.bytes)
  if not tail.client then
    redis.call('HSET', info, 'next', next, 'bytes', bytes)
    redis.call('HDEL', info, 'client')
  elseif tail.run == tail.known_run then
    redis.call('HSET', info, 'next', next, 'bytes', bytes)
  else
    redis.call(
      'HSET', info, 'next', next, 'bytes', bytes, 'run', text_of(tail.run),
      'client', tail.client)
  end
end

local function join_runs(destination, sizes)
  for run, size in pairs(sizes) do
    run = text_of(run)
    if redis.call('HINCRBY', destination .. ':runs:sizes', run, size) == size then
      redis.call('ZADD', destination .. ':runs', run, run)
    end
  end
end

-- Write what was entered.
local function store(tail)
  local destination = tail.destination
  move(tail)
  each('HSET', destination .. ':bodies', tail.bodies)
  each('HSET', destination .. ':records', tail.records)
  each('ZADD', destination .. ':expiry', tail.expiry)
  each('ZADD', destination .. ':ready', tail.ready)
  each('ZADD', destination .. ':delayed', tail.delayed)
  each('ZADD', destination .. ':delayed:due', tail.waiting)
  join_runs(destination, tail.sizes)
  visit(destination, tail.first_end)
end

local function new_id(position, random)
  return string.format('%014x%s', position, random)
end
