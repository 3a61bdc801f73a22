-- Remove entries, or let them end, unless they have changed.
--
-- ARGV[1]: '' for all of them; otherwise only those that are due: entries with a date that
--          has passed, and entries without one that are older than this many seconds
-- ARGV[2]: milliseconds since the epoch until when the entries are kept; '' removes them
-- ARGV[3], ARGV[4], ...: pairs of a sender id and the score of its entry
-- Returns how many entries were removed.
local function is_due(score)
    if score >= FIRST_DATE then
        return score <= now
    end
    return score <= time[1] - ARGV[1]
end

local removed = 0
for i = 3, #ARGV, 2 do
    local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
    if score == ARGV[i + 1] and (ARGV[1] == '' or is_due(tonumber(score))) then
        if ARGV[2] ~= '' then
            -- A failure leaves an entry that a reader removes later.
            redis.pcall('ZADD', KEYS[1], ARGV[2], ARGV[i])
        else
            removed = removed + redis.call('ZREM', KEYS[1], ARGV[i])
        end
    end
end
set_expiry()
return removed
