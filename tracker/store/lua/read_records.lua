-- Read records by their internal keys, in the order of the keys. Writes nothing.
--
-- ARGV whole  0|1  whether to read whole records, else without their members, which may be large
-- ARGV room   int  no more records are read once their values have so many bytes
-- ARGV keys   ...  internal keys
-- FROM record_reads: read_record
--
-- Returns {field, value, ...} for each of the first keys, at least one. An empty list stands for a record that is gone.
local reply, size = {}, 0
for at = keys_start, keys_start + keys_count - 1 do
  local fields, bytes = read_record(ARGV[at], whole)
  reply[#reply + 1] = fields
  size = size + bytes
  if size >= tonumber(room) then break end
end
return reply
