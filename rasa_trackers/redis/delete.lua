-- Erase a conversation.
--
-- ARGV[3]: SHA-1 of those values of Rasa's that are to be erased too
-- ARGV[4]: the user in whose index the caller has noted the conversation, to know its
--          entry again, as JSON text; or ''
-- Returns what Rasa left and the caller does not know: {key, text}; {-1, user} for a user
-- to be noted first; else whether there was anything.
local rasas = left_by_rasa()
if rasas then
    return rasas
end
local header = redis.pcall('LINDEX', KEYS[1], 0)
local owner = type(header) == 'string' and owner_of(header)
if owner and owner.user ~= ARGV[4] then
    return {-1, owner.user}
end
local erased = redis.call('DEL', KEYS[1])
for_each_of_rasas(function(key, _, sha1)
    if string.find(ARGV[3], sha1, 1, true) then
        erased = erased + redis.call('DEL', key)
    end
end)
return erased
