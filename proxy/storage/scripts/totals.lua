-- What client keys have used over all instances.
--
-- KEYS[1]  the prefix of the pool's keys
-- ARGV[1]  MessagePack map: `since`: the keys that changed after the change of this number, at most `most` of them;
--          `keys`: further ones
--
-- Returns a MessagePack array: the number of the last change, how many changed keys these are, and the keys, each
-- {id, day, its tokens, its cost, first day of the month, its tokens, its cost, requests, last used at, reservations,
-- reserved tokens, reserved cost, running, requests of the last minute, microseconds since the newest}.
-- Days count from the epoch, costs are in billionths of a US dollar.

local MINUTE_US = 60000000
local FIELDS = {
  'day', 'day_tokens', 'day_nano', 'month', 'month_tokens', 'month_nano', 'requests', 'last_used_at',
  'reservations', 'reserved_tokens', 'reserved_nano',
}

local prefix, ask = KEYS[1], cmsgpack.unpack(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local rows = {}
local function add(id)
  local row = redis.call('HMGET', prefix .. 'use:' .. id, unpack(FIELDS))
  for i = 1, #FIELDS do row[i] = tonumber(row[i] or 0) end
  table.insert(row, 1, id)
  row[#row + 1] = redis.call('SCARD', prefix .. 'running:' .. id)
  local minute = prefix .. 'minute:' .. id
  row[#row + 1] = redis.call('ZCOUNT', minute, now - MINUTE_US + 1, '+inf')
  local newest = redis.call('ZRANGE', minute, -1, -1, 'WITHSCORES')[2]
  row[#row + 1] = now - (newest or now)
  rows[#rows + 1] = row
end

-- A store that was emptied numbers anew.
local last = ask.since
if last > tonumber(redis.call('GET', prefix .. 'uses') or 0) then last = 0 end
local changed = redis.call(
  'ZRANGEBYSCORE', prefix .. 'used', string.format('(%d', last), '+inf', 'WITHSCORES', 'LIMIT', 0, ask.most)
for i = 1, #changed, 2 do
  add(changed[i])
  last = tonumber(changed[i + 1])
end
for _, id in ipairs(ask.keys) do add(id) end
return cmsgpack.pack({last, #changed / 2, rows})
