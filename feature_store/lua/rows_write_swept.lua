-- As rows_write.lua, for servers that cannot expire the fields of a hash.
-- Each row carries its expiry; the bucket ends with its youngest row; every new field pays for
-- looking at two random ones, so that expired fields stay a bounded share of a living bucket.
-- KEYS: the bucket of each row, or one bucket for all rows.
-- ARGV: time to live in ms, bytes of a row, all rows joined, then the entity of each row.
-- Returns how many rows were kept.
local ttl, size, rows = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local call, unpack_row = redis.call, struct.unpack
local clock = call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local expiry = struct.pack('>d', now + ttl)
local kept, at, renewed = 0, 1, {}
for i = 4, #ARGV do
  local key, entity = KEYS[i - 3] or KEYS[1], ARGV[i]
  local old = call('HGET', key, entity)
  local newer = false
  if old and #old >= 32 then
    local expires, time, epoch, offset = unpack_row('>dddd', old)
    local _, my_time, my_epoch, my_offset = unpack_row('>dddd', rows, at)
    newer = (expires == 0 or expires > now) and (time > my_time or (time == my_time and
      (epoch > my_epoch or (epoch == my_epoch and offset > my_offset))))
  end
  if not newer then
    local row = expiry .. string.sub(rows, at + 8, at + size - 1)
    if call('HSET', key, entity, row) == 1 then
      local some = call('HRANDFIELD', key, 2, 'WITHVALUES')
      for j = 1, #some, 2 do
        local expires = #some[j + 1] >= 32 and unpack_row('>d', some[j + 1]) or 0
        if expires > 0 and expires <= now then
          call('HDEL', key, some[j])
        end
      end
    end
    if not renewed[key] then
      renewed[key] = true
      if call('PTTL', key) < ttl then
        call('PEXPIRE', key, ttl)
      end
    end
    kept = kept + 1
  end
  at = at + size
end
return kept
