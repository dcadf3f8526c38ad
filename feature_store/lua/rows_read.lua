-- The row of each entity, false where there is none.
-- KEYS: the bucket of each entity. ARGV: the entities.
local call, rows = redis.call, {}
for i = 1, #ARGV do
  rows[i] = call('HGET', KEYS[i], ARGV[i])
end
return rows
