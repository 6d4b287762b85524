-- Expire records: an operation that has ended becomes a tombstone when its retention is over, and a tombstone is
-- removed when its own time is over. That frees memory, so it is done at the server's `maxmemory`, too.
--
-- KEYS expiries   ZSET    operation that has ended -> when to expire it
-- ARGV limit      int     how many records at most
-- FROM clock_jump_note: has_jumped
-- FROM record: read_record
-- FROM transaction: begin, commit
-- FROM transition: change_stage
-- FLAGS allow-oom
--
-- Returns {expired, forgotten}: how many became tombstones, and how many tombstones were removed.
-- For a while after a jump of the server's clock, nothing expires: it may not be known yet which times were shifted.
local tx = begin(false)
if has_jumped(tx.now) then return {0, 0} end
local expired, forgotten = 0, 0
for _, key in ipairs(call('ZRANGE', expiries, '-inf', tx.time, 'BYSCORE', 'LIMIT', 0, limit)) do
  local record = read_record(key)
  if record and (record.stage == 'completed' or record.stage == 'failed') then
    change_stage(tx, record, 'tombstone')
    expired = expired + 1
  else
    call('ZREM', expiries, key)
    if record then
      call('HDEL', C.ids .. record.owner, record.id)
      call('DEL', record.hash)
      forgotten = forgotten + 1
    end
  end
end
commit(tx)
return {expired, forgotten}
