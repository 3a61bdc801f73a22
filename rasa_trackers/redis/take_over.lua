-- Append events that Rasa's own store left, and delete them there.
--
-- ARGV[3]: the key at which they were found
-- ARGV[4]: SHA-1 of what was found there
-- ARGV[5]: the log's last position then
-- ARGV[6], ...: the events
-- Writes nothing if any of it has changed.
local key = ARGV[3]
local text = text_at(key)
if not text or redis.sha1hex(text) ~= ARGV[4] or last_position() ~= tonumber(ARGV[5]) then
    return
end
local ttl, mine = redis.call('PTTL', key), redis.call('PTTL', KEYS[1])
push(6)
-- A log that is new (-2) expires as what it is made of; one that is there never sooner
-- than before.
if ttl > 0 and (mine == -2 or mine >= 0 and mine < ttl) then
    redis.call('PEXPIRE', KEYS[1], ttl)
end
redis.call('DEL', key)
