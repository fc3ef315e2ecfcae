-- Append lines to a log, all of them or none.
--
-- KEYS: 1 the log (stream), 2 the names of logs (set)
-- ARGV: 1 its name ("": it is not to be listed), 2 instance, 3 the id of the first line ("": by the clock), then lines

local id = ARGV[3] ~= '' and ARGV[3] or '*'
for at = 4, #ARGV do
  redis.call('XADD', KEYS[1], id, 'i', ARGV[2], 'l', ARGV[at])
  id = '*'
end
if ARGV[1] ~= '' and #ARGV > 3 then
  redis.call('SADD', KEYS[2], ARGV[1])
end
return #ARGV - 3
