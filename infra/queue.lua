-- While no slot serves, requests wait here: HAProxy's own queue answers 503 at once where a backend has no server that is up.
-- Sleeping costs nothing: the request is a parked coroutine, looked at 40 times a second.
local path, seconds = ...
local traffic
core.register_init(function() traffic = Map.new(path, Map._str) end)
core.register_action("wait_while_paused", { "http-req" }, function(txn)
    local now = core.now()
    local deadline = now.sec + now.usec / 1e6 + tonumber(seconds)
    while traffic:lookup("paused") == "1" do
        now = core.now()
        if now.sec + now.usec / 1e6 >= deadline then
            txn:set_var("txn.waited_too_long", true)
            return
        end
        core.msleep(25)
    end
end)
