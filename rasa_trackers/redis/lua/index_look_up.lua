-- Look up an entry, before it is removed or changed.
--
-- KEYS[2]: the index of Rasa Pro's own store, out of which the entry moves; missing while
--          the slot moves to another node
-- ARGV[1]: the sender id
-- Returns the entry's score; nil if there is no entry.
if KEYS[2] and type(redis.pcall('ZSCORE', KEYS[2], ARGV[1])) == 'string' then
    -- A conversation can be erased even when memory is full. Then the entry stays.
    local added = redis.pcall('ZADD', KEYS[1], 'NX', now_in_seconds, ARGV[1])
    if type(added) == 'number' then
        set_expiry()
        redis.call('ZREM', KEYS[2], ARGV[1])
    end
end
return redis.call('ZSCORE', KEYS[1], ARGV[1])
