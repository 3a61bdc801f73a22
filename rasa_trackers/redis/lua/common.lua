-- Goes before each script that works on one conversation.
--
-- A log is a list: a header, then the events in order. The header begins with a number;
-- the event at index i has the position number + i. So one key holds all of a
-- conversation: it can only expire or be lost as a whole. Where the conversation has a
-- user, a space and JSON text follow the number, as `header_of` writes it.
--
-- KEYS[1]: the log
-- KEYS[2]: the key of Rasa's own store; missing while the slot moves to another node
-- ARGV[1]: the key of Rasa 1's store, or ''. Not in KEYS, because it is in another slot;
--          it is '' in a cluster.
-- ARGV[2]: SHA-1 of those legacy values that the caller knows already

-- The value at a legacy key, if it is text that can be a conversation.
local function text_at(key)
    local text = redis.pcall('GET', key)
    if type(text) == 'string' and (key == KEYS[2] or string.sub(text, 1, 1) == '{') then
        return text
    end
    if type(text) == 'table' and key == KEYS[2] then
        error(text.err)
    end
end

local function for_each_legacy_value(visit)
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

-- {key, text} of a legacy value that the caller does not know.
-- `log_suffices`: while the slot moves, a log that exists needs no look at KEYS[2].
local function legacy_value(log_suffices)
    if not KEYS[2] and not (log_suffices and redis.call('EXISTS', KEYS[1]) == 1) then
        error('TRYAGAIN the slot is moving to another node')
    end
    return for_each_legacy_value(function(key, text, sha1)
        if not string.find(ARGV[2], sha1, 1, true) then
            return {key, text}
        end
    end)
end

-- The list's length, its number and its header; 0 for an empty log.
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

-- The user in a header, or nil. Each value is JSON text and stays as it is, because Lua's
-- own JSON rounds timestamps.
local function user_in(header)
    local started, indexed, id = string.match(header or '', '^%d+ {"conversation_started"'
        .. ': ([^,]+), "indexed_until": ([^,]+), "user_id": (".*")}$')
    return id and {id = id, started = started, indexed = indexed}
end

local function header_of(number, user)
    if not user then
        return number
    end
    return number .. ' {"conversation_started": ' .. user.started .. ', "indexed_until": '
        .. user.indexed .. ', "user_id": ' .. user.id .. '}'
end

local function last_position()
    local length, number = extent()
    return length == 0 and 0 or number + length - 1
end

-- Append ARGV[first], ARGV[first + 1], ... and return the last position. The positions of
-- a new log continue after `last`. Where that is not known they begin at the server's
-- clock in microseconds: greater than those of a log that was erased here before.
local function push(first, last, user)
    if first > #ARGV then
        return last_position()
    end
    if redis.call('EXISTS', KEYS[1]) == 0 then
        if not last or last == 0 then
            local now = redis.call('TIME')
            last = now[1] * 1000000 + now[2]
        end
        redis.call('RPUSH', KEYS[1], header_of(string.format('%.0f', last), user))
    end
    -- Lua's stack holds some 8,000 values.
    for i = first, #ARGV, 1000 do
        redis.call('RPUSH', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
    end
    return last_position()
end

-- Write a user into the header of a log that exists.
local function set_user(header, user)
    local new = header_of(string.match(header, '^%d+'), user)
    if new ~= header then
        redis.call('LSET', KEYS[1], 0, new)
    end
end

-- Milliseconds since the epoch.
local function now_in_milliseconds()
    local now = redis.call('TIME')
    return now[1] * 1000 + math.floor(now[2] / 1000)
end
