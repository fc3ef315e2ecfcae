-- Keep what an instance tells of itself for as long as its lease, and tell the others what has changed of it.
--
-- KEYS: 1 what the instance has told (hash), 2 who has told anything (set), 3 the log that all follow (see ring.lua)
-- ARGV: 1 instance, 2 milliseconds until its lease ends, 0 if the instance leaves, 3 about how many lines are kept,
--   then name, value, name, value, …; a value of "" removes the name
-- Returns 1; 0 if nothing was known of the instance, which has to tell everything then.

local instance, lease_ms = ARGV[1], tonumber(ARGV[2])
local newest = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
local number = newest and tonumber(string.match(newest[1], '%d+')) or 0

local function append(name, value)
  number = number + 1
  local text = string.format('%d', number)
  local line = text .. ' ' .. instance .. ' ' .. name .. ' ' .. value
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[3], text .. '-1', 'i', instance, 'l', line)
end

if lease_ms == 0 then
  redis.call('DEL', KEYS[1])
  redis.call('SREM', KEYS[2], instance)
  append('', '')
  return 1
end
local known = redis.call('EXISTS', KEYS[1])
for at = 4, #ARGV, 2 do
  if ARGV[at + 1] == '' then
    redis.call('HDEL', KEYS[1], ARGV[at])
  else
    redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
  end
  append(ARGV[at], ARGV[at + 1])
end
redis.call('PEXPIRE', KEYS[1], lease_ms)
redis.call('SADD', KEYS[2], instance)
return known
