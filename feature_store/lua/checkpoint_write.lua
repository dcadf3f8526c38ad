-- Compare and set: change a checkpoint that is at `base` and under our claim.
-- KEYS: head, state a, state b.
-- ARGV: claim, base, position, meta, count of dropped fields, dropped fields, then changed fields
--       as name, value, name, value.
-- Returns written, not_owner or rolled_back.
local head = KEYS[1]
local held = redis.call('HMGET', head, 'claim', 'position', 'live', 'rows')
if held[1] ~= ARGV[1] then return 'not_owner' end
local position = held[2]
if position ~= ARGV[2] then
  return position and position == ARGV[3] and 'written' or 'rolled_back'
end
local state = held[3] == 'b' and KEYS[3] or KEYS[2]
if redis.call('HLEN', state) ~= tonumber(held[4]) then
  return 'rolled_back' -- the head outlived its state: evicted, or restored apart
end
local last = #ARGV
local changed = 6 + tonumber(ARGV[5])
for i = 6, changed - 1, 2000 do -- unpack fails at about 8000 values
  redis.call('HDEL', state, unpack(ARGV, i, math.min(i + 1999, changed - 1)))
end
for i = changed, last, 2000 do
  redis.call('HSET', state, unpack(ARGV, i, math.min(i + 1999, last)))
end
redis.call('HSET', head, 'position', ARGV[3], 'meta', ARGV[4], 'rows', redis.call('HLEN', state))
return 'written'
