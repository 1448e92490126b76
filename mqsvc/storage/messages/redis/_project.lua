-- Where it is kept which destinations of a project count; nothing, for one that is the
-- service's own.
local function counted(destination)
  local prefix, project, kind = string.match(destination, '^(.*):{([^/]*)/(%l+)/')
  if kind == 'queue' or kind == 'topic' then
    return prefix .. ':project:' .. project
  end
end
