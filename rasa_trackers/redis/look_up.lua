-- Look up an entry in the index of a user, before what it leads to is erased.
--
-- KEYS[1]: the index
-- KEYS[2]: the index of Rasa's own store; left out where it cannot be asked for. An entry
--          there moves.
-- ARGV[1]: the sender id
-- Returns the entry's score, by which it is known again; nil if there is none.
if KEYS[2] and type(redis.pcall('ZSCORE', KEYS[2], ARGV[1])) == 'string' then
    -- Erasing must work when memory is full, too; then the entry stays where it is.
    local now = redis.call('TIME')
    local score = string.format('%d.%06d', now[1], now[2])
    local added = redis.pcall('ZADD', KEYS[1], 'NX', score, ARGV[1])
    if type(added) == 'number' then
        if added == 1 then
            redis.call('PERSIST', KEYS[1])
        end
        redis.call('ZREM', KEYS[2], ARGV[1])
    end
end
return redis.call('ZSCORE', KEYS[1], ARGV[1])
