-- What an operation answered is remembered, for a second try of it.

-- How long an operation that may be tried again is remembered.
local REMEMBERED = 60000

-- The answer of an operation whose first try did its work unseen.
local function recall()
  local answer = redis.call('GET', args.token)
  if answer then
    -- Something is written, so that WAIT also waits for this connection.
    redis.call('PEXPIRE', args.token, REMEMBERED)
  end
  return answer
end

-- The same of an operation that knows its answer before it writes anything: else the
-- answer is remembered from now on.
local function recall_or_remember(answer)
  if not redis.call('SET', args.token, answer, 'NX', 'PX', REMEMBERED) then
    return recall()
  end
end

local function remember(answer)
  redis.call('SET', args.token, answer, 'PX', REMEMBERED)
  return answer
end
