-- What a request may cost, read from its body as the model server reads it: HAProxy's own json_query takes the first of
-- two keys, the server the last, and it knows no lists of prompts. Only the outermost object is looked at; what lies
-- deeper is passed over, for a body that is no JSON the server refuses anyway.
local default_bound = tonumber((...))
local MOST = 2000000000
local BOUNDS = { max_tokens = true, max_completion_tokens = true, max_output_tokens = true }
local COPIES = { n = true, best_of = true }
local LISTS = { prompt = true, input = true }

local function next_token(text, place) return string.find(text, "[^ \t\n\r]", place) end

-- The place after a string that opens at `place`.
local function after_string(text, place)
    place = place + 1
    while true do
        local found = string.find(text, '["\\]', place)
        if not found then return nil end
        if string.byte(text, found) == 34 then return found + 1 end
        place = found + 2
    end
end

local function after_nested(text, place)
    local depth = 0
    repeat
        local found = string.find(text, '["%[%]{}]', place)
        if not found then return nil end
        local byte = string.byte(text, found)
        if byte == 34 then
            place = after_string(text, found)
            if not place then return nil end
        else
            depth = depth + ((byte == 123 or byte == 91) and 1 or -1)
            place = found + 1
        end
    until depth == 0
    return place
end

local function after_value(text, place)
    local byte = string.byte(text, place)
    if byte == 34 then return after_string(text, place) end
    if byte == 123 or byte == 91 then return after_nested(text, place) end
    local _, last = string.find(text, "^[%w+.-]+", place)
    return last and last + 1
end

-- A key, or a number in quotes, may be spelt by escapes.
local function decoded(raw)
    if not string.find(raw, "\\", 1, true) then return raw end
    raw = raw:gsub("\\\\", "\1")
    raw = raw:gsub("\\u(%x%x%x%x)", function(hex) return utf8.char(tonumber(hex, 16)) end)
    return (raw:gsub("\\", ""):gsub("\1", "\\"))
end

-- As the server takes integers: also 100.0, "100", " 1_00 " and true. nil: nothing that it would take.
local function number_of(text, place, after)
    local word = text:sub(place, after - 1)
    if word == "true" then return 1 end
    if word == "null" or word == "false" then return 0 end
    if string.byte(word) == 34 then word = decoded(word:sub(2, -2)):gsub("[%s_]", ""):gsub("^%+", "") end
    local number = tonumber(word)
    if not number or number ~= number then return nil end
    return math.min(number, MOST)
end

local function commas(text) return select(2, string.gsub(text, ",", "")) end

-- Of a list: how many prompts it holds, and how many token ids.
local function members(text, place, after)
    place = next_token(text, place + 1)
    if string.byte(text, place) == 93 then return 1, 0 end
    if not string.find(text, '^["%[{]', place) then return 1, commas(text:sub(place, after - 1)) + 1 end
    local prompts, ids = 0, 0
    while place and place < after - 1 do
        local ended = after_value(text, place)
        if not ended then return nil end
        if string.byte(text, place) == 91 then ids = ids + commas(text:sub(place, ended - 1)) + 1 end
        prompts = prompts + 1
        place = next_token(text, ended)
        if place and string.byte(text, place) == 44 then place = next_token(text, place + 1) end
    end
    return prompts, ids
end

-- Sequences that are generated, the bound of each, and token ids that were sent; nil for what is not one JSON object in
-- UTF-8 with each key once.
local function read(text)
    local place = next_token(text, 1)
    if not place or string.byte(text, place) ~= 123 or string.find(text, "\0", 1, true) then return nil end
    local seen, bound, copies, prompts, ids = {}, 0, 1, 1, 0
    place = next_token(text, place + 1)
    while place do
        local byte = string.byte(text, place)
        if byte == 125 then
            if next_token(text, place + 1) then return nil end
            return prompts * copies, bound > 0 and bound or default_bound, ids
        end
        local ended = byte == 34 and after_string(text, place)
        local key = ended and decoded(text:sub(place + 1, ended - 2))
        if not key or seen[key] then return nil end
        seen[key] = true
        place = next_token(text, ended)
        if not place or string.byte(text, place) ~= 58 then return nil end
        place = next_token(text, place + 1)
        local after = place and after_value(text, place)
        if not after then return nil end
        if BOUNDS[key] or COPIES[key] then
            local number = number_of(text, place, after)
            if not number then return nil end
            if BOUNDS[key] then bound = math.max(bound, number) else copies = math.max(copies, number) end
        elseif LISTS[key] and string.byte(text, place) == 91 then
            local count, numbers = members(text, place, after)
            if not count then return nil end
            ids = math.max(ids, numbers)
            if key == "prompt" then prompts = count end  -- `input` is one conversation, or texts of which nothing is written
        end
        place = next_token(text, after)
        if place and string.byte(text, place) == 44 then
            place = next_token(text, place + 1)
            if place and string.byte(text, place) == 125 then return nil end
        elseif place and string.byte(text, place) ~= 125 then
            return nil
        end
    end
    return nil
end

local function whole(number) return math.tointeger(math.ceil(math.min(number, MOST))) end

core.register_action("read_cost", { "http-req" }, function(txn)
    local text = txn.sf:req_body() or ""
    local sequences, bound, ids = read(text)
    if not sequences then
        txn:set_var("txn.misread", true)
        return
    end
    -- A token for every four bytes, or as many as were sent as numbers.
    local sent = math.max(#text / 4 + 1, ids)
    if txn:get_var("txn.writes") then
        txn:set_var("txn.sequences", whole(sequences))
        txn:set_var("txn.reserved", whole(sent + sequences * bound))
    else
        txn:set_var("txn.sequences", 1)
        txn:set_var("txn.reserved", whole(sent))
    end
end)
