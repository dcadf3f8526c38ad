-- Start to write a checkpoint whole, beside the one that is there.
-- KEYS: head, state a, state b. ARGV: claim.
-- Removes what an interrupted rewrite left. Returns the number of this rewrite, false: not owner.
local head = KEYS[1]
if redis.call('HGET', head, 'claim') ~= ARGV[1] then return false end
redis.call('UNLINK', redis.call('HGET', head, 'live') == 'b' and KEYS[2] or KEYS[3])
local number = redis.call('HINCRBY', head, 'rewrites', 1)
redis.call('HSET', head, 'building', number)
return number
