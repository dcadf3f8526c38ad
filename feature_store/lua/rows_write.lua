-- Keep each row unless a newer one is there; the server expires fields by itself (HSETEX).
-- KEYS: the bucket of each row, or one bucket for all rows.
-- ARGV: time to live in ms, bytes of a row, all rows joined, then the entity of each row.
-- Returns how many rows were kept.
local ttl, size, rows = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local call, unpack_row = redis.call, struct.unpack
local kept, at = 0, 1
for i = 4, #ARGV do
  local key, entity = KEYS[i - 3] or KEYS[1], ARGV[i]
  local old = call('HGET', key, entity)
  local newer = false
  if old and #old >= 32 then
    local expires, time, epoch, offset = unpack_row('>dddd', old)
    local _, my_time, my_epoch, my_offset = unpack_row('>dddd', rows, at)
    newer = time > my_time or (time == my_time and
      (epoch > my_epoch or (epoch == my_epoch and offset > my_offset)))
    if expires > 0 then
      -- Written before the server could expire fields: the bucket no longer ends as a whole.
      call('PERSIST', key)
    end
  end
  if not newer then
    call('HSETEX', key, 'PX', ttl, 'FIELDS', '1', entity, string.sub(rows, at, at + size - 1))
    kept = kept + 1
  end
  at = at + size
end
return kept
