-- Erase a conversation.
--
-- ARGV[3]: SHA-1 of those legacy values that are to be erased too
-- ARGV[4]: the user whose index entry for the conversation the caller has looked up, as
--          JSON text; or ''
-- Returns {key, text} of a legacy value that the caller does not know; {-1, user} for a
-- user whose index entry is to be looked up first; otherwise how many values were erased.
local legacy = legacy_value()
if legacy then
    return legacy
end
local header = redis.pcall('LINDEX', KEYS[1], 0)
local user = type(header) == 'string' and user_in(header)
if user and user.id ~= ARGV[4] then
    return {-1, user.id}
end
local erased = redis.call('DEL', KEYS[1])
for_each_legacy_value(function(key, _, sha1)
    if string.find(ARGV[3], sha1, 1, true) then
        erased = erased + redis.call('DEL', key)
    end
end)
return erased
