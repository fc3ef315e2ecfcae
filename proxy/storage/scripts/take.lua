-- Take a lease.
--
-- KEYS: 1 the lease (string: "<instance> <fence>"), 2 the counter of fences
-- ARGV: 1 instance, 2 for how long in ms, 3 the fence of the lease that this instance knows it has ("" if none): one of
--   its own that it does not know of is free, since the answer, or the wish to end it, was lost
-- Returns the fence, which is higher than those before; nil if somebody has the lease.

local there = redis.call('GET', KEYS[1])
if there then
  local instance, fence = string.match(there, '^(.*) (%d+)$')
  if instance ~= ARGV[1] or fence == ARGV[3] then
    return nil
  end
end
local fence = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. fence, 'PX', ARGV[2])
return fence
