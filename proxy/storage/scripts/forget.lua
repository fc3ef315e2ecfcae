-- Forget what a deleted client key has used. What runs of it still holds its tickets, and gives them back at its end.
--
-- KEYS[1]  the prefix of the pool's keys
-- ARGV[1]  the client key

local prefix, key = KEYS[1], ARGV[1]
redis.call('DEL', prefix .. 'use:' .. key, prefix .. 'minute:' .. key)
return redis.call('ZREM', prefix .. 'used', key)
