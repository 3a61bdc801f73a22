-- Append events, or put them in the place of a whole log.
--
-- ARGV[3]: 'append' or 'replace'
-- ARGV[4]: the position at which the log must end; otherwise nothing is written
-- ARGV[5]: milliseconds after which the conversation expires; '' for never. A 'replace'
--          of a log that has events leaves its expiry date as it is.
-- ARGV[6]: the user id as JSON text; '' leaves the user as it is
-- ARGV[7]: when the conversation began, as JSON text
-- ARGV[8], ARGV[9]: the user to whose index the caller has added the conversation, as
--          JSON text, and until when the entry is kept; or ''
-- ARGV[10]: the user whose index entry the caller has looked up, as JSON text; or ''
-- ARGV[11], ...: the events
-- Returns one of these:
--   {key, text}: a legacy value to migrate first.
--   {-1, user, milliseconds, user}: before the next try, add the conversation to the index
--       of the first user for that time ('' for ever), and look up its entry in the index
--       of the second one. '' stands for no user.
--   nil: a conflict; nothing was written.
--   {position, again, until}: the log's last position. With `again` 1 the conversation has
--       a new user, and the entry must be added once more. `until` is the date at which
--       the entry that was looked up must end; 0 to remove it; '' to leave it.
local FIRST = 11
local legacy = legacy_value(ARGV[3] == 'append')
if legacy then
    return legacy
end
local length, number, header = extent()
local last = length == 0 and 0 or number + length - 1
if last ~= tonumber(ARGV[4]) then
    return false
end
local replaces, is_empty = ARGV[3] == 'replace', #ARGV < FIRST
if length == 0 and is_empty then
    return {last, 0, ''}
end

-- Milliseconds that the log lives from now on; '' for ever.
local life = ARGV[5]
if replaces and length > 0 then
    life = redis.call('PTTL', KEYS[1])
    life = life < 0 and '' or math.max(life, 1)
end

-- Whether an index entry that is kept until `indexed` lives as long as the log will.
local function is_covered(indexed)
    if indexed == 'null' or life == '' then
        return indexed == 'null'
    end
    return now_in_milliseconds() + life <= (tonumber(indexed) or 0)
end

local before = user_in(header)
local user = before
if replaces and is_empty then
    user = nil
elseif ARGV[6] ~= '' then
    user = {id = ARGV[6], started = ARGV[7]}
    if before and not replaces and before.started ~= 'null' then
        user.started = before.started
    end
end
local is_same = before and user and before.id == user.id
local to_add, to_look_up, until_date = '', '', ''
if user and ARGV[8] == user.id and is_covered(ARGV[9]) then
    user.indexed = ARGV[9]
elseif is_same and is_covered(before.indexed) then
    user.indexed = before.indexed
elseif user then
    to_add = user.id
end
if before and not is_same then
    to_look_up, until_date = before.id, 0
elseif user and user.indexed == 'null' and life ~= '' then
    -- The entry was for ever. From now on it must end with the conversation.
    until_date = string.format('%.0f', now_in_milliseconds() + life)
    to_look_up, user.indexed = user.id, until_date
end
if to_add ~= '' or to_look_up ~= ARGV[10] and to_look_up ~= '' then
    life = life ~= '' and string.format('%.0f', life) or ''
    return {-1, to_add, life, to_look_up ~= ARGV[10] and to_look_up or ''}
end

if replaces then
    redis.call('DEL', KEYS[1])
elseif user and length > 0 then
    set_user(header, user)
end
local position = push(FIRST, last, user)
if life == '' then
    redis.call('PERSIST', KEYS[1])
else
    redis.call('PEXPIRE', KEYS[1], life)
end
return {position, user and not is_same and 1 or 0, until_date}
