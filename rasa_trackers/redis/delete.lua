-- Erase a conversation.
--
-- ARGV[3]: SHA-1 of those values of Rasa's that are to be erased too
-- Returns what Rasa left and the caller does not know: {key, text}; else whether there
-- was anything.
local rasas = left_by_rasa()
if rasas then
    return rasas
end
local erased = redis.call('DEL', KEYS[1])
for_each_of_rasas(function(key, _, sha1)
    if string.find(ARGV[3], sha1, 1, true) then
        erased = erased + redis.call('DEL', key)
    end
end)
return erased
