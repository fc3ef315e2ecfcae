-- Append lines that are chained to the last one of all, whoever wrote that: nothing if it is another one by now.
--
-- KEYS: 1 the log (stream), 2 the names of logs (set), 3 the tip of the chain, which says what its last line is
-- ARGV: 1 the log's name, 2 instance, 3 the tip that the lines follow, 4 the tip that they make, then lines
-- Returns the tip that is there now. If there was none, the lines begin the chain.

local tip = redis.call('GET', KEYS[3])
if tip and tip ~= ARGV[3] then return tip end
for at = 5, #ARGV do
  redis.call('XADD', KEYS[1], '*', 'i', ARGV[2], 'l', ARGV[at])
end
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('SET', KEYS[3], ARGV[4])
return ARGV[4]
