-- Add to the counters of accounts, and tell all instances what they are now.
--
-- KEYS: 1 the counters (hash), 2 the log that all follow (see ring.lua)
-- ARGV: 1 instance, 2 about how many lines are kept, then for each account: id, what its three counters are if they are
--   not known here, what is added to each, when it was used last (seconds since the epoch), and its quota (JSON)
-- Each line is the id, the counters, when it was used last, and the quota. Returns the counters, three for each account.

local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
local number = newest and tonumber(string.match(newest[1], '%d+')) or 0
local found = {}
for at = 3, #ARGV, 9 do
  local id, used_at, quota = ARGV[at], ARGV[at + 7], ARGV[at + 8]
  local line = {}
  for counter = 1, 3 do
    local field = id .. ' ' .. counter
    redis.call('HSETNX', KEYS[1], field, ARGV[at + counter])
    local sum = redis.call('HINCRBY', KEYS[1], field, ARGV[at + 3 + counter])
    found[#found + 1] = sum
    line[counter] = string.format('%d', sum)
  end
  local last = redis.call('HGET', KEYS[1], id .. ' used_at')
  if last and tonumber(last) > tonumber(used_at) then used_at = last end
  redis.call('HSET', KEYS[1], id .. ' used_at', used_at, id .. ' quota', quota)
  number = number + 1
  local text = string.format('%d', number)
  line = text .. ' ' .. id .. ' ' .. table.concat(line, ' ') .. ' ' .. used_at .. ' ' .. quota
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], text .. '-1', 'i', ARGV[1], 'l', line)
end
return found
