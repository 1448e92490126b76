-- In front of every operation: the keys and arguments of a call, and the steps that
-- all share. Each operation is one script, and so atomic. It names the parts that it
-- needs, which come between; what it does not need would be made anew at each call. So
-- what is seldom needed is named where it is, and comes there.
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

-- How long an operation that may be tried again is remembered.
local REMEMBERED = 60000

local function text_of(number)
  return string.format('%d', number)
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
  if #values > 0 and #values <= MANY then
    return redis.call(command, key, unpack(values))
  end
  local found = {}
  for first = 1, #values, MANY do
    local last = math.min(first + MANY - 1, #values)
    for _, answer in ipairs(redis.call(command, key, unpack(values, first, last))) do
      found[#found + 1] = answer
    end
  end
  return found
end
