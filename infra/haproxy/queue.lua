-- While no slot serves, requests wait here: HAProxy's own queue answers 503 at once where a backend has no server that is up.
-- Sleeping costs nothing: the request is a parked coroutine, looked at 40 times a second.
local path, seconds = ...
local traffic
core.register_init(function() traffic = Map.new(path, Map._str) end)
core.register_action("wait_while_paused", { "http-req" }, function(txn)
    local now = core.now()
    local began = now.sec + now.usec / 1e6
    local waited = 0
    local key = txn:get_var("txn.paused_key") or "paused"
    while traffic:lookup(key) == "1" and waited < tonumber(seconds) do
        core.msleep(25)
        now = core.now()
        waited = now.sec + now.usec / 1e6 - began
    end
    txn:set_var("txn.held", math.floor(waited * 1000))
    if waited >= tonumber(seconds) then txn:set_var("txn.waited_too_long", true) end
end)
-- A slot that has no pod gets one for whoever waits: the backend counts the request, and an autoscaler reads that.
core.register_action("wait_for_server", { "http-req" }, function(txn)
    local waited = 0
    while txn.f:nbsrv(txn:get_var("txn.slot")) == 0 and waited < tonumber(seconds) do
        core.msleep(100)
        waited = waited + 0.1
    end
    txn:set_var("txn.held", math.floor(waited * 1000))
end)
