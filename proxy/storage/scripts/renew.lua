-- Keep a lease for longer; with 0 ms, end it. Whoever does not hold it any more changes nothing.
--
-- KEYS: 1 the lease
-- ARGV: 1 "<instance> <fence>" of the holder, 2 for how long from now in ms
-- Returns 1 if it was held, else 0.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
