-- End requests: release what each holds (admit.lua), and count what it has used, once however often it is asked.
--
-- KEYS[1]  the prefix of the pool's keys
-- ARGV[1]  MessagePack map, proxy.clients.shared.Settlements:
--   months   as for admit.lua
--   batch    the id of these entries, if one of them has no ticket: a batch counts once; absent: all have one
--   owner, number  the instance and the number of this call among its own, by which it knows after a failover what was
--            lost (`settled:<instance>`: the last one); absent: the call is not numbered
--   entries  at most some hundreds:
--     id, owner       the request and the instance that holds its ticket; absent: what is counted had no ticket
--     tokens, nano    what it has used; absent: nothing
--     key             its client key, for one that was reaped or has no ticket
--     requests, at    further requests of the key, and when the last one came, in seconds since the epoch
--     first           the store has said that it holds the ticket, and this was not asked before: what was used
--                     counts, even if the store has lost the ticket in a restart
--     unsure          it is not known which calls for this request took effect: none may do so after this one
--     reaped          its instance is dead. If that was said too early, it may still come to say what was used
--
-- Returns how many of the entries counted.

local TOLD_S, REAPED_S = 600, 86400

local prefix, ask = KEYS[1], cmsgpack.unpack(ARGV[1])
local function name(kind, id) return prefix .. kind .. ':' .. id end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local today = math.floor(now / 86400000000)
local month = ask.months[1]
for i = 2, #ask.months - 1 do
  if ask.months[i] <= today then month = ask.months[i] end
end

-- Add what was used to the day and the month, in which it is now.
local function count(key, entry)
  local use, tokens, nano = name('use', key), entry.tokens or 0, entry.nano or 0
  local kept = redis.call('HMGET', use, 'day', 'month')
  if tonumber(kept[1] or 0) ~= today then
    redis.call('HSET', use, 'day', today, 'day_tokens', tokens, 'day_nano', nano)
  elseif tokens > 0 or nano > 0 then
    redis.call('HINCRBY', use, 'day_tokens', tokens)
    redis.call('HINCRBY', use, 'day_nano', nano)
  end
  if tonumber(kept[2] or 0) ~= month then
    redis.call('HSET', use, 'month', month, 'month_tokens', tokens, 'month_nano', nano)
  elseif tokens > 0 or nano > 0 then
    redis.call('HINCRBY', use, 'month_tokens', tokens)
    redis.call('HINCRBY', use, 'month_nano', nano)
  end
  if entry.requests then
    redis.call('HINCRBY', use, 'requests', entry.requests)
    local last = tonumber(redis.call('HGET', use, 'last_used_at') or 0)
    if entry.at > last then redis.call('HSET', use, 'last_used_at', entry.at) end
  end
  redis.call('ZADD', prefix .. 'used', redis.call('INCR', prefix .. 'uses'), key)
end

-- Tell the instance of the request that is the next of a queue: there may be a slot for it.
local function tell_next(client)
  local first = redis.call('ZRANGEBYSCORE', name('queue', client), now + 1, '+inf', 'LIMIT', 0, 1)[1]
  if first then
    local turns = name('turns', string.match(first, '^%S+ (%S+)'))
    redis.call('RPUSH', turns, client)
    redis.call('PEXPIRE', turns, 60000)
  end
end

-- `known`: the key was not deleted meanwhile; what it used is forgotten then (forget.lua).
local function release(id, ticket, known)
  redis.call('SREM', name('running', ticket.key), id)
  if ticket.client then redis.call('SREM', name('slots', ticket.client), id) end
  if ticket.queue then redis.call('ZREM', name('queue', ticket.queue), ticket.queued) end
  if ticket.client or ticket.queue then tell_next(ticket.client or ticket.queue) end
  if ticket.tokens and known then
    local use = name('use', ticket.key)
    -- Not `-ticket.tokens`: that is "-0" for nothing, which is no integer to Redis.
    redis.call('HINCRBY', use, 'reserved_tokens', 0 - ticket.tokens)
    redis.call('HINCRBY', use, 'reserved_nano', 0 - ticket.nano)
    redis.call('HINCRBY', use, 'reservations', -1)
  end
end

-- Whether the request was not settled before.
local function settle(entry)
  local open, done = name('open', entry.owner), name('done', entry.id)
  local held = redis.call('HGET', open, entry.id)
  if held then
    local ticket = cmsgpack.unpack(held)
    redis.call('HDEL', open, entry.id)
    local known = redis.call('ZSCORE', prefix .. 'used', ticket.key)
    release(entry.id, ticket, known)
    if entry.reaped then
      redis.call('SET', done, 'reaped', 'EX', REAPED_S)
    elseif entry.unsure then
      redis.call('SET', done, 'settled', 'EX', TOLD_S)
    end
    if known then count(ticket.key, entry) end
    return true
  end
  if entry.reaped then return false end
  local found = redis.call('GET', done)
  if entry.unsure or found then redis.call('SET', done, 'settled', 'EX', TOLD_S) end
  if found == 'reaped' or (entry.first and not found) then
    count(entry.key, entry)
    return true
  end
  return false
end

local counted = 0
local is_new = not ask.batch or redis.call('SET', name('done', ask.batch), 'settled', 'EX', TOLD_S, 'NX')
for _, entry in ipairs(ask.entries) do
  if entry.id then
    if settle(entry) then counted = counted + 1 end
  elseif is_new then
    count(entry.key, entry)
    counted = counted + 1
  end
end
if ask.number then redis.call('SET', name('settled', ask.owner), ask.number, 'EX', TOLD_S) end
return counted
