-- needs: records

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
