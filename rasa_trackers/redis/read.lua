-- The newest events before a position.
--
-- ARGV[3]: how many; '' for all
-- ARGV[4]: the position; '' for none
-- ARGV[5]: 'text' to have them in one text, a line each: a reply of 1,000 parts takes the
--          client 1 ms longer
-- Returns what Rasa left: {key, text}; else {position of the first event, its index,
-- {events} or text, the list's first element}; nil for an empty log. The events, if one of
-- them has more lines.
local rasas = left_by_rasa(true)
if rasas then
    return rasas
end
local length, number, header = extent()
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
    return {number + 1, 1, {}, header}
end
local events = redis.call('LRANGE', KEYS[1], first, last)
if ARGV[5] == 'text' then
    local text = table.concat(events, '\n')
    local _, ends = string.gsub(text, '\n', '')
    if ends == #events - 1 then
        return {number + first, first, text, header}
    end
end
return {number + first, first, events, header}
