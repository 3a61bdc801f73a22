-- The newest events before a position.
--
-- ARGV[3]: how many; '' for all
-- ARGV[4]: the position; '' for none
-- ARGV[5]: 'text' for one text with a line for each event, because a reply of 1,000 parts
--          takes the client 1 ms longer
-- Returns {key, text} of a legacy value to migrate first; nil for an empty log; otherwise
-- {position of the first event, its index, text or events, the header}. A list of events
-- where one of them has several lines.
local legacy = legacy_value(true)
if legacy then
    return legacy
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
    local has_lines = false
    for _, event in ipairs(events) do
        -- A search that copies nothing: an event may have 10 MB.
        has_lines = has_lines or string.find(event, '\n', 1, true)
    end
    if not has_lines then
        return {number + first, first, table.concat(events, '\n'), header}
    end
end
return {number + first, first, events, header}
