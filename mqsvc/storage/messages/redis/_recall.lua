-- What an operation answered is remembered, for a second try of it.

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
