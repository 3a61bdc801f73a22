-- Note in the index of a user that a conversation may be that user's.
--
-- An index is a sorted set of sender ids by the times at which they were noted last. It
-- may be in another slot than the conversation, so no step touches both. Therefore an
-- entry is made before the conversation gets its user, and means nothing by itself.
--
-- KEYS[1]: the index
-- KEYS[2]: the index of Rasa's own store; left out where it cannot be asked for. An entry
--          there moves.
-- ARGV[1]: the sender id
-- ARGV[2]: milliseconds that the index is kept at least; '' for always
-- Returns the entry's score, by which it is known again, and until when the index is kept,
-- in milliseconds since the epoch, or 'null'.
local now = redis.call('TIME')
local ttl = redis.call('PTTL', KEYS[1])
redis.call('ZADD', KEYS[1], string.format('%d.%06d', now[1], now[2]), ARGV[1])
if KEYS[2] then
    redis.pcall('ZREM', KEYS[2], ARGV[1])
end
local kept = 'null'
if ARGV[2] == '' then
    redis.call('PERSIST', KEYS[1])
elseif ttl ~= -1 then
    if ttl < tonumber(ARGV[2]) then
        ttl = tonumber(ARGV[2])
        redis.call('PEXPIRE', KEYS[1], ARGV[2])
    end
    kept = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000) + ttl)
end
return {redis.call('ZSCORE', KEYS[1], ARGV[1]), kept}
