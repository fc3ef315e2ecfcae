-- Set or delete one record if it is still at the generation that the caller knows, and tell all instances.
--
-- KEYS: 1 the records of the kind (hash: id -> "<generation> <value>"), 2 the stream of changes, 3 the counter of
--   generations, 4 the deleted ids (sorted set: "<kind>/<id>" by generation), 5 fences (hash: "<kind>/<id>" -> number)
-- ARGV: 1 kind, 2 id, 3 the known generation (0: there is none; "": whichever), 4 value ("" deletes), 5 instance, 6 fence ("" without),
--   7 how many changes to keep
-- Returns {"done", generation}; else {"conflict" or "stale", generation, value} with what is there ("" if nothing: then the
-- generation is that of its deletion, 0 without one).
-- "stale": a later holder of the lease has written.

local there = redis.call('HGET', KEYS[1], ARGV[2])
local generation, value = 0, ''
if there then
  local space = string.find(there, ' ', 1, true)
  generation, value = tonumber(string.sub(there, 1, space - 1)), string.sub(there, space + 1)
end
local name = ARGV[1] .. '/' .. ARGV[2]
local function answer(why)
  if not there then
    generation = tonumber(redis.call('ZSCORE', KEYS[4], name) or 0)
  end
  return {why, generation, value}
end
local fence = tonumber(ARGV[6])
if fence and fence < tonumber(redis.call('HGET', KEYS[5], name) or 0) then
  return answer('stale')
end
local known = tonumber(ARGV[3]) or generation
if generation ~= known then
  return answer('conflict')
end
local new = redis.call('INCR', KEYS[3])
if new <= known then -- the store has lost its last writes, and the counter with them
  new = known + 1
  redis.call('SET', KEYS[3], new)
end
if ARGV[4] == '' then
  redis.call('HDEL', KEYS[1], ARGV[2])
  redis.call('HDEL', KEYS[5], name)
  redis.call('ZADD', KEYS[4], new, name)
  redis.call('ZREMRANGEBYRANK', KEYS[4], 0, -100001)
else
  redis.call('HSET', KEYS[1], ARGV[2], string.format('%.0f ', new) .. ARGV[4])
  redis.call('ZREM', KEYS[4], name)
  if fence then
    redis.call('HSET', KEYS[5], name, ARGV[6])
  end
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[7], '*', 'kind', ARGV[1], 'id', ARGV[2],
  'generation', string.format('%.0f', new), 'value', ARGV[4], 'instance', ARGV[5])
return {'done', new}
