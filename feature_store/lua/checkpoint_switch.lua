-- Make the checkpoint just written whole the one that counts.
-- KEYS: head, state a, state b. ARGV: claim, number of the rewrite, position, meta.
-- Returns written, not_owner or superseded.
local head = KEYS[1]
local held = redis.call('HMGET', head, 'claim', 'building', 'live')
if held[1] ~= ARGV[1] then return 'not_owner' end
if held[2] ~= ARGV[2] then return 'superseded' end
local live, state, old = 'b', KEYS[3], KEYS[2]
if held[3] == 'b' then live, state, old = 'a', KEYS[2], KEYS[3] end
redis.call('HSET', head, 'live', live, 'position', ARGV[3], 'meta', ARGV[4],
  'rows', redis.call('HLEN', state))
redis.call('HDEL', head, 'building')
redis.call('UNLINK', old)
return 'written'
