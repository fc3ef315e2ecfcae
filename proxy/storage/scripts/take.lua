-- Take a lease.
--
-- KEYS: 1 the lease (string: "<instance> <fence>"), 2 the counter of fences
-- ARGV: 1 instance, 2 for how long in ms
-- Returns the fence, which is higher than those before; nil if somebody has the lease.

if redis.call('EXISTS', KEYS[1]) == 1 then
  return nil
end
local fence = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. fence, 'PX', ARGV[2])
return fence
