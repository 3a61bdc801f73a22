-- Append events, or put them in the place of all others.
--
-- ARGV[3]: 'append' or 'replace'
-- ARGV[4]: write nothing unless the log ends at this position
-- ARGV[5]: milliseconds after which the conversation expires; '' for never
-- ARGV[6]: whose conversation it is from now on, as JSON text; '' for whose it is already
-- ARGV[7]: when it began, as JSON text
-- ARGV[8], ARGV[9]: a user in whose index the caller has noted the conversation, as JSON
--          text, and until when that is kept; or ''
-- ARGV[10]: a user in whose index it was noted before, to know the entry again; or ''
-- ARGV[11], ...: the events
-- Returns what Rasa left: {key, text}; {-1, ARGV[8], ARGV[10]} with what the caller is to
-- do first; else the last position, or nil for a conflict; {the last position} where the
-- user is one who was not the log's before.
local FIRST = 11
local rasas = left_by_rasa(ARGV[3] == 'append')
if rasas then
    return rasas
end
local length, number, header = extent()
local last = length == 0 and 0 or number + length - 1
if last ~= tonumber(ARGV[4]) then
    return false
end
local replaces, is_empty = ARGV[3] == 'replace', #ARGV < FIRST
if length == 0 and is_empty then
    return last
end
local kept = replaces and redis.call('PTTL', KEYS[1]) or -1

-- Whether an index entry that is kept until then lives as long as the log will.
local function is_covered(indexed)
    local expiry = ARGV[5] ~= '' and tonumber(ARGV[5]) or kept
    if indexed == 'null' or expiry <= 0 then
        return indexed == 'null'
    end
    local now = redis.call('TIME')
    return now[1] * 1000 + now[2] / 1000 + expiry <= tonumber(indexed)
end

local before = owner_of(header)
local owner = before
if replaces and is_empty then
    owner = nil
elseif ARGV[6] ~= '' then
    owner = {user = ARGV[6], started = ARGV[7]}
    if before and not replaces and before.started ~= 'null' then
        owner.started = before.started
    end
end
local is_same = before and owner and before.user == owner.user
local to_note, to_forget = '', ''
if owner and ARGV[8] == owner.user then
    owner.indexed = ARGV[9]
elseif is_same and is_covered(before.indexed) then
    owner.indexed = before.indexed
elseif owner then
    to_note = owner.user
end
if before and not is_same and ARGV[10] ~= before.user then
    to_forget = before.user
end
if to_note ~= '' or to_forget ~= '' then
    return {-1, to_note, to_forget}
end

if replaces then
    redis.call('DEL', KEYS[1])
elseif owner and length > 0 then
    set_owner(header, owner)
end
local position = push(FIRST, last, owner)
if ARGV[5] ~= '' then
    redis.call('PEXPIRE', KEYS[1], ARGV[5])
elseif kept > 0 then
    redis.call('PEXPIRE', KEYS[1], kept)
else
    redis.call('PERSIST', KEYS[1])
end
if owner and not is_same then
    return {position}
end
return position
