-- The newest events before a position.
--
-- ARGV[3]: how many; '' for all
-- ARGV[4]: the position; '' for none
-- Returns what Rasa left: {key, text}; else {position of the first event, its index,
-- {events}}; nil for an empty log.
local rasas = left_by_rasa(true)
if rasas then
    return rasas
end
local length, number = extent()
if length == 0 then
    return false
end
local last = length - 1
if ARGV[4] ~= '' then
    last = math.min(last, tonumber(ARGV[4]) - number - 1)
end
local first = 1
if ARGV[3] ~= '' then
    first = math.max(1, last - tonumber(ARGV[3]) + 1)
end
if last < first then
    return {number + 1, 1, {}}
end
return {number + first, first, redis.call('LRANGE', KEYS[1], first, last)}
