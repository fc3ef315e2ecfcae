-- Take over what client keys have used as other storages keep it, unless this one has its own sums of the key.
--
-- KEYS[1]  the prefix of the pool's keys
-- ARGV[1]  MessagePack map: by client key, the fields of its hash `use:<key>` (totals.lua)
--
-- Returns how many were taken over.

local prefix, taken = KEYS[1], 0
for key, fields in pairs(cmsgpack.unpack(ARGV[1])) do
  local use = prefix .. 'use:' .. key
  if redis.call('EXISTS', use) == 0 then
    for field, value in pairs(fields) do redis.call('HSET', use, field, value) end
    redis.call('ZADD', prefix .. 'used', redis.call('INCR', prefix .. 'uses'), key)
    taken = taken + 1
  end
end
return taken
