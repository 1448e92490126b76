-- Bytes of bodies in all destinations of a project that count. Gives their sum.

local total = 0
for _, destination in ipairs(redis.call('SMEMBERS', base)) do
  total = total + tonumber(redis.call('HGET', destination .. ':info', 'bytes') or 0)
end
return cmsgpack.pack(total)
