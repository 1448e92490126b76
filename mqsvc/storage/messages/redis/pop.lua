-- Take the oldest free messages and delete them. Gives them.
-- needs: recall listing showing removal catching_up

local answer = recall()
if answer then
  return answer
end
catch_up()
local messages = listing(base, 0, args.limit, {})
answer = cmsgpack.pack(show(base, messages))
if #messages > 0 then
  remove(base, messages)
  remember(answer)
end
return answer
