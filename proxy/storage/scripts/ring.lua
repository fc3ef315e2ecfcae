-- Append lines to a log that keeps its newest ones. Each is numbered, without a gap, in the order in which all read it.
--
-- KEYS: 1 the log (stream)
-- ARGV: 1 instance, 2 about how many lines are kept, then lines
-- Returns the number of the last line. It stands before the line as well, and is the first part of the entry's id.

local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local number = newest and tonumber(string.match(newest[1], '%d+')) or 0
for at = 3, #ARGV do
  number = number + 1
  local text = string.format('%d', number)
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], text .. '-1', 'i', ARGV[1], 'l', text .. ' ' .. ARGV[at])
end
return number
