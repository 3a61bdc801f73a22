-- Add a conversation to the index of a user, and remove entries that are due.
--
-- KEYS[2]: the index of Rasa Pro's own store, out of which the entry moves; missing while
--          the slot moves to another node
-- ARGV[1]: the sender id
-- ARGV[2]: milliseconds that the entry is kept at least; '' for ever
-- Returns until when the entry is kept, in milliseconds since the epoch, or 'null'. An
-- entry never ends earlier than before. Its score always changes, so that whoever is about
-- to remove the entry as it was leaves it alone.
for _, due in ipairs(redis.call('ZRANGE', KEYS[1], FIRST_DATE, now, 'BYSCORE')) do
    redis.call('ZREM', KEYS[1], due)
end
local before = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or FIRST_DATE)
local score, kept = now_in_seconds, 'null'
if ARGV[2] ~= '' and before >= FIRST_DATE then
    score = string.format('%.0f', math.max(now + ARGV[2], before + 1))
    kept = score
end
redis.call('ZADD', KEYS[1], score, ARGV[1])
if KEYS[2] then
    redis.pcall('ZREM', KEYS[2], ARGV[1])
end
set_expiry()
return kept
