-- Goes before each script.
--
-- A log is a list: first a number, then the events in order. The event at index i has the
-- position number + i. So one key holds all of a conversation, and nothing but the whole
-- can expire or be lost. Where it is known whose conversation it is, that stands behind
-- the number: a space, and JSON as `with_owner` writes it.
--
-- KEYS[1]: the log
-- KEYS[2]: where Rasa's own store keeps the conversation; left out where it cannot be
--          asked for
-- ARGV[1]: where Rasa 1 kept it, or ''. Not in KEYS: only looked at where there is no
--          cluster, and where the server allows it.
-- ARGV[2]: SHA-1 of those values at KEYS[2] and ARGV[1] that the caller knows already

-- What is found at a key of Rasa's, if it is text that can be a conversation.
local function text_at(key)
    local text = redis.pcall('GET', key)
    if type(text) == 'string' and (key == KEYS[2] or string.sub(text, 1, 1) == '{') then
        return text
    end
    if type(text) == 'table' and key == KEYS[2] then
        error(text.err)
    end
end

local function for_each_of_rasas(visit)
    for _, key in ipairs({ARGV[1], KEYS[2]}) do
        local text = key ~= '' and text_at(key)
        if text then
            local found = visit(key, text, redis.sha1hex(text))
            if found then
                return found
            end
        end
    end
end

-- What Rasa's own stores left and the caller does not know: {key, text}.
-- `unless_there`: a log that is there will do, if it cannot be asked for.
local function left_by_rasa(unless_there)
    if not KEYS[2] and not (unless_there and redis.call('EXISTS', KEYS[1]) == 1) then
        error('TRYAGAIN the slot is moving to another node')
    end
    return for_each_of_rasas(function(key, text, sha1)
        if not string.find(ARGV[2], sha1, 1, true) then
            return {key, text}
        end
    end)
end

-- The list's length, its number and its first element; 0 for an empty log.
local function extent()
    local length = redis.call('LLEN', KEYS[1])
    if length == 0 then
        return 0
    end
    local header = redis.call('LINDEX', KEYS[1], 0)
    local number = string.match(header, '^%d+$') or string.match(header, '^(%d+) {.*}$')
    if not number then
        error('WRONGTYPE the list was not written by rasa_trackers')
    end
    return length, tonumber(number), header
end

-- Whose conversation it is, by a list's first element; nil if that is not known. Each
-- value is JSON text that is handed on as it is: Lua's own JSON rounds timestamps.
local function owner_of(header)
    local started, indexed, user = string.match(header or '', '^%d+ {"conversation_started"'
        .. ': ([^,]+), "indexed_until": ([^,]+), "user_id": (".*")}$')
    return user and {user = user, started = started, indexed = indexed}
end

local function with_owner(number, owner)
    if not owner then
        return number
    end
    return number .. ' {"conversation_started": ' .. owner.started .. ', "indexed_until": '
        .. owner.indexed .. ', "user_id": ' .. owner.user .. '}'
end

local function last_position()
    local length, number = extent()
    return length == 0 and 0 or number + length - 1
end

-- Append ARGV[first], ARGV[first + 1], ... and return the last position. A new log's
-- positions go on from `last`; by default from the clock, so that they are higher than
-- those of a log that was erased here before. It is that of `owner`.
local function push(first, last, owner)
    if first > #ARGV then
        return last_position()
    end
    if redis.call('EXISTS', KEYS[1]) == 0 then
        if not last or last == 0 then
            local now = redis.call('TIME')
            last = now[1] * 1000000 + now[2]
        end
        redis.call('RPUSH', KEYS[1], with_owner(string.format('%.0f', last), owner))
    end
    -- Lua's stack holds some 8,000 values.
    for i = first, #ARGV, 1000 do
        redis.call('RPUSH', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
    end
    return last_position()
end

-- Write down whose log it is, which is there already with this first element.
local function set_owner(header, owner)
    local new = with_owner(string.match(header, '^%d+'), owner)
    if new ~= header then
        redis.call('LSET', KEYS[1], 0, new)
    end
end
