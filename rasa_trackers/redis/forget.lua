-- Remove entries that lead nowhere from the index of a user.
--
-- KEYS[1]: the index
-- ARGV[1]: seconds since which an entry's score must have passed; '' for any score
-- ARGV[2], ARGV[3], ...: pairs of a sender id and the score of its entry. One that has
--          another score by now has been noted again, and stays.
local now = redis.call('TIME')
for i = 2, #ARGV, 2 do
    local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
    local is_due = ARGV[1] == '' or tonumber(ARGV[i + 1]) <= now[1] - tonumber(ARGV[1])
    if score == ARGV[i + 1] and is_due then
        redis.call('ZREM', KEYS[1], ARGV[i])
    end
end
