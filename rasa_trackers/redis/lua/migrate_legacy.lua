-- Move the events of a legacy value to the end of the log. Writes nothing if the value or
-- the log has changed.
--
-- ARGV[3]: the key of the legacy value
-- ARGV[4]: SHA-1 of the value
-- ARGV[5]: the position at which the log ends
-- ARGV[6]: the user id as JSON text; '' for none
-- ARGV[7]: when the conversation began, as JSON text
-- ARGV[8]: until when that user's index keeps an entry for the conversation
-- ARGV[9], ...: the events
local key = ARGV[3]
local text = text_at(key)
if not text or redis.sha1hex(text) ~= ARGV[4] or last_position() ~= tonumber(ARGV[5]) then
    return
end
local theirs, ours = redis.call('PTTL', key), redis.call('PTTL', KEYS[1])
local length, _, header = extent()
local user = user_in(header)
if ARGV[6] ~= '' then
    -- A user that the log has stays; then the caller has passed that user.
    if not user then
        user = {id = ARGV[6], started = ARGV[7], indexed = ARGV[8]}
    elseif user.id == ARGV[6] then
        user.indexed = ARGV[8]
    end
    if length > 0 then
        set_user(header, user)
    end
end
push(9, nil, user)
-- A new log (-2) expires when the legacy value would have. An older log expires at the
-- later of both dates.
if theirs > 0 and (ours == -2 or ours >= 0 and ours < theirs) then
    redis.call('PEXPIRE', KEYS[1], theirs)
elseif theirs == -1 and ours >= 0 then
    redis.call('PERSIST', KEYS[1])
end
redis.call('DEL', key)
