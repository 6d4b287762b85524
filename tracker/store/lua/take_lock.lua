-- Take the lock of the sweeper, unless a process has it.
--
-- KEYS sweeper  STRING  token of the process that has the lock
-- ARGV token    string  the caller's
-- ARGV lifetime int     milliseconds after which the lock is free again
-- FLAGS allow-oom
--
-- Returns 1 if the caller has the lock now, else 0. A call whose reply was lost may be repeated.
if call('SET', sweeper, token, 'NX', 'PX', lifetime) then return 1 end
return call('GET', sweeper) == token and 1 or 0
