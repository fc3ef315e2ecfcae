-- Take the places again of an instance's running requests that the store has lost: to a failover or a restart, or
-- since the instance stood still and was taken for dead.
--
-- KEYS[1]  the prefix of the pool's keys
-- ARGV[1]  MessagePack map, proxy.clients.holdings.Retake:
--   owner, lease_ms  the instance, and how long one lives that does not renew its lease
--   server           the server's run id; absent: that of the last call
--   tickets          requests: id, key, client, tokens, nano; concurrent, slots (limits, as for admit.lua)
--   minute           key, request id and age in microseconds of each of the last minute, one after the other
--
-- Another server than before may lack what the last one has said. So all instances are awaited, for as long as a lease:
-- until each has been here, nothing is admitted, and what it says held a place holds it again. Whoever comes later, or
-- was given up by the others, gets a place only if there is one.
--
--   server     the run id of the server         instances  set: those that live (reap.lua)
--   awaited    set: instances that have not told this server yet what they hold
--
-- Returns the ids of requests that have no place any more.

local prefix, ask = KEYS[1], cmsgpack.unpack(ARGV[1])
local function name(kind, id) return prefix .. kind .. ':' .. id end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local awaited = prefix .. 'awaited'
local is_awaited = redis.call('SISMEMBER', awaited, ask.owner) == 1
if ask.server then
  local last = redis.call('SET', prefix .. 'server', ask.server, 'GET')
  if last and last ~= ask.server then
    redis.call('DEL', awaited)
    redis.call('SUNIONSTORE', awaited, prefix .. 'instances')
    redis.call('SADD', awaited, ask.owner)
    redis.call('PEXPIRE', awaited, ask.lease_ms)
    is_awaited = true
  end
end

for at = 1, #ask.minute, 3 do
  local minute = name('minute', ask.minute[at])
  redis.call('ZADD', minute, 'NX', now - ask.minute[at + 2], ask.minute[at + 1])
  redis.call('PEXPIRE', minute, 60000)
end

local function has_room(each)
  return is_awaited or (
    (not each.concurrent or redis.call('SCARD', name('running', each.key)) < each.concurrent) and
    (not each.client or redis.call('SCARD', name('slots', each.client)) < each.slots))
end

local lost, open = {}, name('open', ask.owner)
for _, each in ipairs(ask.tickets) do
  if redis.call('HEXISTS', open, each.id) == 0 then
    if has_room(each) then
      redis.call('DEL', name('done', each.id))
      redis.call('SADD', name('running', each.key), each.id)
      if each.client then redis.call('SADD', name('slots', each.client), each.id) end
      if each.tokens then
        local use = name('use', each.key)
        redis.call('HINCRBY', use, 'reserved_tokens', each.tokens)
        redis.call('HINCRBY', use, 'reserved_nano', each.nano)
        redis.call('HINCRBY', use, 'reservations', 1)
      end
      local ticket = {key = each.key, client = each.client, tokens = each.tokens, nano = each.nano}
      redis.call('HSET', open, each.id, cmsgpack.pack(ticket))
      redis.call('ZADD', prefix .. 'used', redis.call('INCR', prefix .. 'uses'), each.key)
    else
      lost[#lost + 1] = each.id
    end
  end
end
if redis.call('EXISTS', open) == 1 then
  redis.call('SADD', prefix .. 'holders', ask.owner)
  redis.call('SET', name('alive', ask.owner), 1, 'PX', ask.lease_ms, 'NX')
end
redis.call('SREM', awaited, ask.owner)
return lost
