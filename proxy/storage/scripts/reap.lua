-- Renew the lease of an instance, and find the tickets of those whose lease has ended: settle.lua gives them back.
--
-- KEYS[1]  the prefix of the pool's keys
-- ARGV[1]  the instance
-- ARGV[2]  milliseconds until its lease ends
-- ARGV[3]  the most tickets to find; the rest is found the next time
-- ARGV[4]  1 if the instance has just started, else 0
--
-- Returns {1 if the lease had ended, else 0, instance, request id, instance, request id, …}.
--
-- An instance that finds its own lease ended could not reach the store, and maybe nobody could. So nobody is taken for
-- dead until all have had the time to come back: `grace` exists so long.

local prefix, lease_ms, most = KEYS[1], ARGV[2], tonumber(ARGV[3])
local lived = redis.call('SET', prefix .. 'alive:' .. ARGV[1], 1, 'PX', lease_ms, 'GET')
local lapsed = not lived and ARGV[4] == '0'
if lapsed then redis.call('SET', prefix .. 'grace', 1, 'PX', lease_ms) end
redis.call('SADD', prefix .. 'instances', ARGV[1])

local found = {lapsed and 1 or 0}
if redis.call('EXISTS', prefix .. 'grace') == 1 then return found end
for _, instance in ipairs(redis.call('SMEMBERS', prefix .. 'holders')) do
  if redis.call('EXISTS', prefix .. 'alive:' .. instance) == 0 then
    local open = prefix .. 'open:' .. instance
    local left = most - (#found - 1) / 2
    if left <= 0 then break end
    for _, id in ipairs(redis.call('HRANDFIELD', open, left)) do
      found[#found + 1] = instance
      found[#found + 1] = id
    end
    if redis.call('EXISTS', open) == 0 then redis.call('SREM', prefix .. 'holders', instance) end
  end
end
for _, instance in ipairs(redis.call('SMEMBERS', prefix .. 'instances')) do
  if redis.call('EXISTS', prefix .. 'alive:' .. instance, prefix .. 'open:' .. instance) == 0 then
    redis.call('SREM', prefix .. 'instances', instance)
  end
end
return found
