-- Add fields to the checkpoint being written whole; few per call, so that nobody waits for long.
-- KEYS: head, state a, state b. ARGV: claim, number of the rewrite, then name, value, ...
-- Returns written, not_owner or superseded.
local held = redis.call('HMGET', KEYS[1], 'claim', 'building', 'live')
if held[1] ~= ARGV[1] then return 'not_owner' end
if held[2] ~= ARGV[2] then return 'superseded' end
local state = held[3] == 'b' and KEYS[2] or KEYS[3]
for i = 3, #ARGV, 2000 do -- unpack fails at about 8000 values
  redis.call('HSET', state, unpack(ARGV, i, math.min(i + 1999, #ARGV)))
end
return 'written'
