-- Append events, or put them in the place of all others.
--
-- ARGV[3]: 'append' or 'replace'
-- ARGV[4]: write nothing unless the log ends at this position
-- ARGV[5]: milliseconds after which the conversation expires; '' for never
-- ARGV[6], ...: the events
-- Returns what Rasa left: {key, text}; else the last position, or nil for a conflict.
local rasas = left_by_rasa(ARGV[3] == 'append')
if rasas then
    return rasas
end
local last = last_position()
if last ~= tonumber(ARGV[4]) then
    return false
end
local kept = -1
if ARGV[3] == 'replace' then
    kept = redis.call('PTTL', KEYS[1])
    redis.call('DEL', KEYS[1])
end
local position = push(6, last)
if ARGV[5] ~= '' then
    redis.call('PEXPIRE', KEYS[1], ARGV[5])
elseif kept > 0 then
    redis.call('PEXPIRE', KEYS[1], kept)
else
    redis.call('PERSIST', KEYS[1])
end
return position
