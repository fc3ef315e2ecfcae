-- Admit one request within the limits that all instances share, or say which limit refuses it. All or nothing, but
-- that a request which is refused by a budget is one of its key's requests a minute all the same.
--
-- KEYS[1]  the prefix of the pool's keys, with their hash tag: all names below begin with it
-- ARGV[1]  MessagePack map, proxy.clients.shared.Ask:
--   id, owner, key      the request, its instance and its client key
--   lease_ms            how long an instance lives that does not renew its lease (reap.lua)
--   minute, concurrent  limits of the key: requests a minute, requests at once
--   client, slots       the client that needs a slot, and how many it has
--   wait_ms             how long the request may wait for a slot; absent: not at all
--   tokens, nano        what to reserve: tokens, and cost in billionths of a US dollar
--   tokens_per_day, tokens_per_month, nano_per_day, nano_per_month
--   months              first days of the months around now and of the one after, in days since the epoch
--
-- Asked again for the same id, it takes only what the request does not hold yet.
-- Returns {'admitted'}; {'waiting'}: it is queued for a slot, ask again; {'over'}: it was settled before; {'behind'}:
-- the store is not told yet what all instances hold (retake.lua), ask again; or {limit, microseconds to wait, n}, where n
-- is how many there are, or of a budget when it resets, in seconds since the epoch; 0 if it has room as soon as requests
-- in flight give back what they have reserved.
--
--   open:<instance>   hash: tickets by request id          holders  set: the instances that have some
--   alive:<instance>  its lease                            done:<id>  what became of a ticket (settle.lua)
--   running:<key>     set: requests of a key               minute:<key>  sorted set: those of a minute, by time
--   slots:<client>    set: requests that hold a slot       queue:<client>  sorted set: those that wait, by their end
--   awaited           set: instances that have to tell what they hold first (retake.lua)
--   turns:<instance>  list: clients of whose queues it has the first
--   use:<key>         hash: what the key has used and reserved
--   used              sorted set: keys by their last change, which `uses` numbers (totals.lua)
--
-- Time is the store's, in microseconds, so that the clocks of instances do not matter.

local MINUTE_US = 60000000

local prefix, ask = KEYS[1], cmsgpack.unpack(ARGV[1])
local function name(kind, id) return prefix .. kind .. ':' .. id end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- Tell the instance of the request that is the next of a queue: there may be a slot for it.
local function tell_next(client)
  local first = redis.call('ZRANGEBYSCORE', name('queue', client), now + 1, '+inf', 'LIMIT', 0, 1)[1]
  if first then
    local turns = name('turns', string.match(first, '^%S+ (%S+)'))
    redis.call('RPUSH', turns, client)
    redis.call('PEXPIRE', turns, 60000)
  end
end

local open = name('open', ask.owner)
local running, minute = name('running', ask.key), name('minute', ask.key)
local slots, queue = name('slots', ask.client or ''), name('queue', ask.client or '')
local use = name('use', ask.key)

if redis.call('EXISTS', name('done', ask.id), prefix .. 'awaited') > 0 then
  return {redis.call('EXISTS', prefix .. 'awaited') == 1 and 'behind' or 'over'}
end
local held = redis.call('HGET', open, ask.id)
local ticket = held and cmsgpack.unpack(held) or {key = ask.key}

-- What refuses it, before anything is changed.

if not held then
  local count = redis.call('SCARD', running)
  if ask.concurrent and count >= ask.concurrent then
    return {'concurrent_requests', 1000000, count}
  end
  if ask.minute then
    redis.call('ZREMRANGEBYSCORE', minute, '-inf', now - MINUTE_US)
    local sent = redis.call('ZCARD', minute)
    if sent >= ask.minute then
      -- If the limit was lowered, more than one has to pass.
      local last = redis.call('ZRANGE', minute, -ask.minute, -ask.minute, 'WITHSCORES')
      return {'requests_per_minute', last[2] + MINUTE_US - now, sent}
    end
  end
end

local function count_in_minute()
  if ask.minute and not held then
    redis.call('ZADD', minute, now, ask.id)
    redis.call('PEXPIRE', minute, 60000)
  end
end

local reserves = ask.tokens and not ticket.tokens
if reserves then
  local today = math.floor(now / 86400000000)
  local month, next_month = ask.months[1], ask.months[2]
  for i = 2, #ask.months - 1 do
    if ask.months[i] <= today then month, next_month = ask.months[i], ask.months[i + 1] end
  end
  local spent = redis.call(
    'HMGET', use, 'day', 'day_tokens', 'day_nano', 'month', 'month_tokens', 'month_nano',
    'reserved_tokens', 'reserved_nano')
  for i = 1, 8 do spent[i] = tonumber(spent[i] or 0) end
  if spent[1] ~= today then spent[2], spent[3] = 0, 0 end
  if spent[4] ~= month then spent[5], spent[6] = 0, 0 end
  local month_ends, day_ends = next_month * 86400, (today + 1) * 86400
  -- The month first: if both budgets are spent, the client must wait for the next month.
  local budgets = {
    {'tokens_per_month', most = ask.tokens_per_month, used = spent[5] + ask.tokens, held = spent[7], ends = month_ends},
    {'cost_usd_per_month', most = ask.nano_per_month, used = spent[6] + ask.nano, held = spent[8], ends = month_ends},
    {'tokens_per_day', most = ask.tokens_per_day, used = spent[2] + ask.tokens, held = spent[7], ends = day_ends},
    {'cost_usd_per_day', most = ask.nano_per_day, used = spent[3] + ask.nano, held = spent[8], ends = day_ends},
  }
  for _, each in ipairs(budgets) do
    if each.most and each.used > each.most then
      count_in_minute()
      return {each[1], each.ends * 1000000 - now, each.ends}
    end
  end
  for _, each in ipairs(budgets) do
    if each.most and each.used + each.held > each.most then
      count_in_minute()
      return {each[1], 1000000, 0}
    end
  end
end

local waits = false
if ask.client and not ticket.client then
  local taken, ahead, rank = redis.call('SCARD', slots), redis.call('ZCARD', queue), nil
  if ahead > 0 then
    ahead = ahead - redis.call('ZREMRANGEBYSCORE', queue, '-inf', now)
    rank = ticket.queued and redis.call('ZRANK', queue, ticket.queued)
  end
  -- First come, first served: whoever is new is behind all who wait.
  waits = taken + (rank or ahead) >= ask.slots
  if waits and (not ask.wait_ms or (ticket.queued and not rank)) then
    return {'slots', 1000000, taken}  -- it may not wait, or has waited for long enough
  end
end

-- What it takes.

if not held then
  redis.call('SADD', running, ask.id)
  count_in_minute()
  if redis.call('HLEN', open) == 0 then
    redis.call('SADD', prefix .. 'holders', ask.owner)
    redis.call('SET', name('alive', ask.owner), 1, 'PX', ask.lease_ms, 'NX')
  end
end
if waits then
  if not ticket.queued then
    -- The order is that of coming, even if the store's clock was set back meanwhile.
    local last = redis.call('ZRANGE', queue, -1, -1, 'WITHSCORES')[2]
    local number = redis.call('INCR', prefix .. 'queued')
    ticket.queue, ticket.queued = ask.client, string.format('%016d %s %s', number, ask.owner, ask.id)
    redis.call('ZADD', queue, math.max(now + ask.wait_ms * 1000, tonumber(last or 0)), ticket.queued)
  end
else
  if ask.client and not ticket.client then
    redis.call('SADD', slots, ask.id)
    if ticket.queued then
      redis.call('ZREM', queue, ticket.queued)
      tell_next(ask.client)
    end
    ticket.client, ticket.queue, ticket.queued = ask.client, nil, nil
  end
  if reserves then
    ticket.tokens, ticket.nano = ask.tokens, ask.nano
    redis.call('HINCRBY', use, 'reserved_tokens', ask.tokens)
    redis.call('HINCRBY', use, 'reserved_nano', ask.nano)
    redis.call('HINCRBY', use, 'reservations', 1)
  end
end
redis.call('HSET', open, ask.id, cmsgpack.pack(ticket))
redis.call('ZADD', prefix .. 'used', redis.call('INCR', prefix .. 'uses'), ask.key)
return {waits and 'waiting' or 'admitted'}
