-- In front of every operation: the keys and arguments of a call, and the steps that
-- operations share. Each operation is one script, and so atomic.
--
-- KEYS: the registry of housekeeping, the floor of positions, the destination, and
-- the target of dead letters or the second destination of a post. ARGV: the parameters as one
-- MessagePack map, then bodies.
--
-- A message is a member (its id) of one of the sorted sets ready, delayed and claimed,
-- scored by position, and of expiry, scored by its end. Those delayed or claimed are
-- also in delayed:due or claimed:due, scored by the moment at which that is over. The
-- sets may be behind the clock: what became due stays where it is until a claim, a
-- pop or a sweep moves it, so every look compares the moments as well.
--
-- The bytes of all bodies of a destination are in its info, which is written anyway when
-- something is posted; which destinations a project has, in a set that is seldom written.
--
-- Numbers become text by text_of() only: Redis and Lua would round or shorten them.

local registry, floor, base = KEYS[1], KEYS[2], KEYS[3]
local args = cmsgpack.unpack(ARGV[1])
local now = args.now

-- As many values as one call of unpack() may give; even, for lists of pairs.
local MANY = 1000
-- Entries of each kind that a claim or a pop corrects at most.
local CORRECTED = 200
-- Above every position; the last whole number that is exact in a score.
local BEHIND_ALL = 9007199254740992
-- How long an operation that may be tried again is remembered.
local REMEMBERED = 60000
local STATES = {'ready', 'delayed', 'claimed'}
local WAITING = {'delayed', 'claimed'}
local PARTS = {
  'info', 'ready', 'delayed', 'delayed:due', 'claimed', 'claimed:due', 'expiry',
  'records', 'bodies', 'claims', 'claims:due', 'runs', 'runs:sizes',
}

local function text_of(number)
  return string.format('%.0f', number)
end

local function position_of(id)
  return tonumber(string.sub(id, 1, 14), 16)
end

local function push(list, value, second)
  list[#list + 1] = value
  list[#list + 1] = second
end

-- A command with any number of values, in pieces.
local function each(command, key, values)
  for first = 1, #values, MANY do
    local last = math.min(first + MANY - 1, #values)
    redis.call(command, key, unpack(values, first, last))
  end
end

-- The answers of such a command, one for each value; false where there is none.
local function fetch(command, key, values)
  local found = {}
  for first = 1, #values, MANY do
    local last = math.min(first + MANY - 1, #values)
    local piece = redis.call(command, key, unpack(values, first, last))
    for index = 1, #piece do
      found[#found + 1] = piece[index]
    end
  end
  return found
end

-- The answer of an operation whose first try did its work unseen.
local function recall()
  local answer = redis.call('GET', args.token)
  if answer then
    -- Something is written, so that WAIT also waits for this connection.
    redis.call('PEXPIRE', args.token, REMEMBERED)
  end
  return answer
end

local function remember(answer)
  redis.call('SET', args.token, answer, 'PX', REMEMBERED)
  return answer
end

local function encode(message)
  return cmsgpack.pack(
    message.expires, message.ttl, message.created, message.count, message.client,
    message.run, message.claim, message.size)
end

local function decode(id, text)
  local message = {id = id, position = position_of(id)}
  message.expires, message.ttl, message.created, message.count, message.client,
    message.run, message.claim, message.size = cmsgpack.unpack(text)
  return message
end

-- The messages among some ids that are there, in the order of the ids.
local function stored(destination, ids)
  local found = {}
  for index, text in ipairs(fetch('HMGET', destination .. ':records', ids)) do
    if text then
      push(found, decode(ids[index], text))
    end
  end
  return found
end

-- Those that exist; where it is known they are told the state they are in.
local function existing(destination, ids, state)
  local found = {}
  for _, message in ipairs(stored(destination, ids)) do
    if message.expires > now then
      message.state = state
      push(found, message)
    end
  end
  return found
end

local function ids_of(messages)
  local ids = {}
  for index, message in ipairs(messages) do
    ids[index] = message.id
  end
  return ids
end

-- Messages as the caller reads them.
local function show(destination, messages)
  local rows = {}
  local bodies = fetch('HMGET', destination .. ':bodies', ids_of(messages))
  for index, message in ipairs(messages) do
    rows[index] = {
      message.id, bodies[index], message.ttl, message.created, message.claim,
      message.count,
    }
  end
  return rows
end

-- The first existing messages of a sorted set behind a position, or before it when
-- the command walks backwards.
local function walk(destination, part, from, limit, command)
  local found, piece = {}, limit
  local stop = command == 'ZREVRANGEBYSCORE' and '-inf' or '+inf'
  while true do
    local ids = redis.call(
      command or 'ZRANGEBYSCORE', destination .. ':' .. part,
      '(' .. text_of(from), stop, 'LIMIT', 0, piece)
    for _, message in ipairs(existing(destination, ids, part)) do
      push(found, message)
    end
    if #ids < piece or #found >= limit then
      return found
    end
    from = position_of(ids[#ids])
    piece = math.min(2 * piece, MANY)
  end
end

local function cut(list, limit)
  for index = #list, limit + 1, -1 do
    list[index] = nil
  end
  return list
end

-- What is due in a sorted set scored by moments, up to so many.
local function due(key, limit)
  return redis.call('ZRANGEBYSCORE', key, '-inf', text_of(now), 'LIMIT', 0, limit)
end

-- Messages behind a position whose delay or claim is over, though not yet moved.
local function overdue(destination, state, after)
  local ids = {}
  for _, id in ipairs(due(destination .. ':' .. state .. ':due', -1)) do
    if position_of(id) > after then
      push(ids, id)
    end
  end
  return existing(destination, ids, state)
end

-- The first messages behind a position: the free ones, and those of other states too
-- where `include` has them.
local function listing(destination, after, limit, include)
  local found = walk(destination, 'ready', after, limit)
  local sorted = true
  for _, state in ipairs(WAITING) do
    local more
    if include[state] then
      more = walk(destination, state, after, limit)
    else
      more = overdue(destination, state, after)
    end
    for _, message in ipairs(more) do
      push(found, message)
      sorted = false
    end
  end
  if not sorted then
    table.sort(found, function(one, other) return one.position < other.position end)
  end
  return cut(found, limit)
end

local function place(destination, state, ids)
  local entries = {}
  for _, id in ipairs(ids) do
    push(entries, text_of(position_of(id)), id)
  end
  each('ZADD', destination .. ':' .. state, entries)
end

-- Take messages out of the state they are in; where it is not known, out of each.
local function displace(destination, messages)
  local ids = {ready = {}, delayed = {}, claimed = {}}
  for _, message in ipairs(messages) do
    for _, state in ipairs(message.state and {message.state} or STATES) do
      push(ids[state], message.id)
    end
  end
  each('ZREM', destination .. ':ready', ids.ready)
  for _, state in ipairs(WAITING) do
    each('ZREM', destination .. ':' .. state .. ':due', ids[state])
    each('ZREM', destination .. ':' .. state, ids[state])
  end
end

-- Let them wait in a state until a moment.
local function await(destination, state, ids, moment)
  local entries = {}
  for _, id in ipairs(ids) do
    push(entries, text_of(moment), id)
  end
  each('ZADD', destination .. ':' .. state .. ':due', entries)
end

-- Messages of a run are gone; a run without any is forgotten.
local function shrink(destination, run, count)
  local sizes = destination .. ':runs:sizes'
  if redis.call('HINCRBY', sizes, run, -count) <= 0 then
    redis.call('HDEL', sizes, run)
    redis.call('ZREM', destination .. ':runs', run)
  end
end

local function remove(destination, messages)
  local ids, lost, size = ids_of(messages), {}, 0
  for _, message in ipairs(messages) do
    local run = text_of(message.run)
    lost[run] = (lost[run] or 0) + 1
    -- One that was stored before sizes were kept was never counted either.
    size = size + (message.size or 0)
  end
  displace(destination, messages)
  each('ZREM', destination .. ':expiry', ids)
  each('HDEL', destination .. ':records', ids)
  each('HDEL', destination .. ':bodies', ids)
  if size > 0 then
    redis.call('HINCRBY', destination .. ':info', 'bytes', text_of(-size))
  end
  for run, count in pairs(lost) do
    shrink(destination, run, count)
  end
end

-- A sweep looks at this destination from a moment on, or earlier.
local function visit(destination, moment)
  redis.call('ZADD', registry, 'LT', text_of(moment), destination)
end

-- Where it is kept which destinations of a project count; nothing, for one that is the
-- service's own.
local function counted(destination)
  local prefix, project, kind = string.match(destination, '^(.*):{([^/]*)/(%l+)/')
  if kind == 'queue' or kind == 'topic' then
    return prefix .. ':project:' .. project
  end
end

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
  local run = first
  if client and known[2] == client then
    run = tonumber(known[3])
  end
  local bytes = text_of(tonumber(known[4] or 0) + size)
  local entries = {'next', text_of(first + count), 'run', text_of(run), 'bytes', bytes}
  local project = not known[4] and counted(destination)
  if project then
    redis.call('SADD', project, destination)
  end
  if client then
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
    local run = text_of(message.run)
    sizes[run] = (sizes[run] or 0) + 1
  end
  for run, size in pairs(sizes) do
    if redis.call('HINCRBY', destination .. ':runs:sizes', run, size) == size then
      redis.call('ZADD', destination .. ':runs', run, run)
    end
  end
end

-- Store new messages; those with `ready_at` are delayed until then.
local function store(destination, messages)
  local ready, delayed, waiting = {}, {}, {}
  local expiry, records, bodies = {}, {}, {}
  local soonest = math.huge
  for _, message in ipairs(messages) do
    if message.ready_at then
      push(delayed, text_of(message.position), message.id)
      push(waiting, text_of(message.ready_at), message.id)
    else
      push(ready, text_of(message.position), message.id)
    end
    message.size = #message.body
    push(expiry, text_of(message.expires), message.id)
    push(records, message.id, encode(message))
    push(bodies, message.id, message.body)
    soonest = math.min(soonest, message.expires, message.ready_at or message.expires)
  end
  each('HSET', destination .. ':bodies', bodies)
  each('HSET', destination .. ':records', records)
  each('ZADD', destination .. ':expiry', expiry)
  each('ZADD', destination .. ':ready', ready)
  each('ZADD', destination .. ':delayed', delayed)
  each('ZADD', destination .. ':delayed:due', waiting)
  join_runs(destination, messages)
  visit(destination, soonest)
end

local function new_id(position, random)
  return string.format('%014x', position) .. random
end

-- Write changed records, and the expiry of those that now live longer.
local function update(destination, messages)
  local records, expiry = {}, {}
  for _, message in ipairs(messages) do
    push(records, message.id, encode(message))
    if message.extended then
      push(expiry, text_of(message.expires), message.id)
    end
  end
  each('HSET', destination .. ':records', records)
  each('ZADD', destination .. ':expiry', expiry)
end

-- A message never expires under a claim: where it would, it lives for the grace after.
local function extend(message, ends)
  if message.expires < ends then
    message.expires = ends + args.grace * 1000
    message.ttl = args.ttl + args.grace
    message.extended = true
  end
end

-- A live claim, or nothing.
local function live(destination, claim)
  local text = redis.call('HGET', destination .. ':claims', claim)
  if text then
    local ttl, created, ends, ids = cmsgpack.unpack(text)
    if ends > now then
      return {ttl = ttl, created = created, ids = ids}
    end
  end
end

local function keep_claim(destination, claim, ends, ids)
  redis.call(
    'HSET', destination .. ':claims', claim, cmsgpack.pack(args.ttl, now, ends, ids))
  redis.call('ZADD', destination .. ':claims:due', text_of(ends), claim)
  visit(destination, ends)
end

-- What a live claim still holds, of the ids that it was made with.
local function held(destination, claim, ids)
  local found = {}
  local messages = existing(destination, ids)
  local ends = fetch('ZMSCORE', destination .. ':claimed:due', ids_of(messages))
  for index, message in ipairs(messages) do
    if message.claim == claim and ends[index] and tonumber(ends[index]) > now then
      message.state = 'claimed'
      push(found, message)
    end
  end
  return found
end

-- Delete what expired and free what became due, up to so many of each kind; gives how
-- many that were in all.
local function correct(destination, limit)
  local ids = due(destination .. ':expiry', limit)
  local count = #ids
  remove(destination, stored(destination, ids))
  for _, state in ipairs(WAITING) do
    ids = due(destination .. ':' .. state .. ':due', limit)
    count = count + #ids
    each('ZREM', destination .. ':' .. state .. ':due', ids)
    each('ZREM', destination .. ':' .. state, ids)
    place(destination, 'ready', ids)
  end
  local claims = due(destination .. ':claims:due', limit)
  each('HDEL', destination .. ':claims', claims)
  each('ZREM', destination .. ':claims:due', claims)
  return count + #claims
end
