-- Which keys hold a conversation of Rasa 1: json.dumps({"events": [...], "name": key}).
--
-- ARGV: pairs of a key and the end of its value
-- Returns the numbers of the pairs.
local found = {}
for i = 1, #ARGV, 2 do
    local first = redis.pcall('GETRANGE', ARGV[i], 0, 11)
    local last = redis.pcall('GETRANGE', ARGV[i], -#ARGV[i + 1], -1)
    if first == '{"events": [' and last == ARGV[i + 1] then
        found[#found + 1] = (i - 1) / 2
    end
end
return found
