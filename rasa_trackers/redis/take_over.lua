-- Append events that Rasa's own store left, and delete them there.
--
-- ARGV[3]: the key at which they were found
-- ARGV[4]: SHA-1 of what was found there
-- ARGV[5]: the log's last position then
-- ARGV[6]: whose conversation it is, as JSON text, unless the log knows that; or ''
-- ARGV[7]: when it began, as JSON text
-- ARGV[8]: until when it is kept in that user's index
-- ARGV[9], ...: the events
-- Writes nothing if any of it has changed.
local key = ARGV[3]
local text = text_at(key)
if not text or redis.sha1hex(text) ~= ARGV[4] or last_position() ~= tonumber(ARGV[5]) then
    return
end
local ttl, mine = redis.call('PTTL', key), redis.call('PTTL', KEYS[1])
local length, _, header = extent()
local owner = owner_of(header)
if ARGV[6] ~= '' then
    -- When it began and whose it is are the log's own, which the caller has read, if it
    -- has them; then only the index may have changed.
    if not owner then
        owner = {user = ARGV[6], started = ARGV[7], indexed = ARGV[8]}
    elseif owner.user == ARGV[6] then
        owner.indexed = ARGV[8]
    end
    if length > 0 then
        set_owner(header, owner)
    end
end
push(9, nil, owner)
-- A log that is new (-2) expires as what it is made of; one that is there never sooner
-- than before.
if ttl > 0 and (mine == -2 or mine >= 0 and mine < ttl) then
    redis.call('PEXPIRE', KEYS[1], ttl)
elseif ttl == -1 and mine >= 0 then
    redis.call('PERSIST', KEYS[1])
end
redis.call('DEL', key)
