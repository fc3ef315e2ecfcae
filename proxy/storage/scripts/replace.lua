-- Put a new log in the place of an old one, with what it does not account for.
--
-- KEYS: 1 the log (stream), 2 the new one, 3 the names of logs (set), 4 how often logs were replaced (hash)
-- ARGV: 1 its name, 2 the id of the last line of others that the new one accounts for, 3 the same of one's own lines,
--   4 instance, 5 how often it had been replaced when it was read ("": whatever that is)
-- Returns 1; 0 if another instance has replaced it since: then nothing is changed.

if ARGV[5] ~= '' and ARGV[5] ~= (redis.call('HGET', KEYS[4], ARGV[1]) or '0') then
  redis.call('DEL', KEYS[2])
  return 0
end

local function follows(id, other)
  local ms, number = string.match(id, '(%d+)-(%d+)')
  local other_ms, other_number = string.match(other, '(%d+)-(%d+)')
  ms, number, other_ms, other_number = tonumber(ms), tonumber(number), tonumber(other_ms), tonumber(other_number)
  return ms > other_ms or (ms == other_ms and number > other_number)
end

for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '(' .. ARGV[2], '+')) do
  local id, fields = entry[1], entry[2]
  local by = fields[2]
  if follows(id, ARGV[3]) or (by ~= ARGV[4] and by ~= '') then
    redis.call('XADD', KEYS[2], '*', 'i', by, 'l', fields[4], 'was', fields[6] or id)
  end
end
if redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('RENAME', KEYS[2], KEYS[1])
else
  redis.call('DEL', KEYS[1])
end
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('HINCRBY', KEYS[4], ARGV[1], 1)
return 1
