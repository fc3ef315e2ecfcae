-- Set records of a disposable kind. Counters are added up over the instances: what one has counted since it wrote last.
--
-- KEYS: 1 the records of the kind (hash: id -> JSON)
-- ARGV: 1 kind, then for each record: id, what this instance wrote last ("" if nothing), what it has now ("" removes)

local function add(there, before, now)
  for name, value in pairs(now) do
    local old, base = there[name], before[name]
    if type(value) == 'table' and value.name then -- spending in a day or month, by its name
      if type(old) ~= 'table' or old.name < value.name then
        there[name] = value
      elseif old.name == value.name then
        local counted = type(base) == 'table' and base.name == value.name and base or {}
        there[name] = add(old, counted, value)
      end
    elseif type(value) == 'number' and string.sub(name, 1, 5) == 'last_' then
      if type(old) ~= 'number' or old < value then
        there[name] = value
      end
    elseif type(value) == 'number' then
      old, base = type(old) == 'number' and old or 0, type(base) == 'number' and base or 0
      there[name] = old + value - base
    elseif old == nil then
      there[name] = value
    end
  end
  return there
end

for at = 2, #ARGV, 3 do
  local id, before, now = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if now == '' then
    redis.call('HDEL', KEYS[1], id)
  else
    local there = ARGV[1] == 'counters' and redis.call('HGET', KEYS[1], id)
    if there then
      now = cjson.encode(add(cjson.decode(there), before ~= '' and cjson.decode(before) or {}, cjson.decode(now)))
    end
    redis.call('HSET', KEYS[1], id, now)
  end
end
return #ARGV
