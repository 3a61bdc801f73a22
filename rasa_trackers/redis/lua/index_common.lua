-- Goes before each script that works on the index of a user.
--
-- An index is a sorted set of the sender ids of conversations that may be the user's. It
-- may be in another slot than a conversation, so no step touches both. Therefore an entry
-- is made before the conversation gets its user, and means nothing by itself.
--
-- The score of an entry for a conversation that expires says until when the entry is kept,
-- in milliseconds since the epoch. For a conversation without an expiry date the score
-- says when the entry was made, in seconds, which are always less than FIRST_DATE.
--
-- KEYS[1]: the index
local FIRST_DATE = 1e11
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local now_in_seconds = string.format('%d.%06d', time[1], time[2])

-- Let the index expire with the last of its entries.
local function set_expiry()
    local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
    local date = tonumber(first[2] or 0)
    -- Rasa Pro's own index has infinite scores.
    if date < FIRST_DATE or date == math.huge then
        redis.call('PERSIST', KEYS[1])
        return
    end
    local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
    local left = math.max(tonumber(last[2]) - now, 1)
    redis.call('PEXPIRE', KEYS[1], string.format('%.0f', left))
end
