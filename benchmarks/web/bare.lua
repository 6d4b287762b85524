-- The writes of a create without its checks.
--
-- This script makes the same writes as tracker/store/lua/create.lua for an operation that starts at once. The time and
-- the number of the ticket come from the server, as there.
--
-- KEYS: record, ids, call, status, context, tickets, queues, prefix of the job's key, queue, ticketed, feed, the hash that
-- jobs are copies of, turns. ARGV: key, id, channel, then the fields and values of the record.
--
-- Returns the time of the create in microseconds.
local time = redis.call('TIME')
local now = time[1] .. string.format('%06d', time[2])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[1])
redis.call('ZADD', KEYS[3], now, ARGV[1])
redis.call('ZADD', KEYS[4], now, ARGV[1])
redis.call('ZADD', KEYS[5], now, ARGV[1])
local ticket = redis.call('INCR', KEYS[6])
local job = ARGV[1] .. '-' .. ticket
local stamp = time[1] .. '-01-31T12:34.' .. string.format('%06d', time[2]) .. 'Z'
redis.call('COPY', KEYS[12], KEYS[8] .. job)
redis.call('HSET', KEYS[8] .. job, 'created_at', stamp, 'enqueued_at', stamp, 'origin', 'operations')
if redis.call('RPUSH', KEYS[9], job) == 1 then redis.call('SADD', KEYS[7], KEYS[9]) end
redis.call('ZADD', KEYS[10], ticket, ARGV[1])
redis.call('ZADD', KEYS[13], 'NX', '-' .. now, string.match(KEYS[2], '%x+$'))
local record = {unpack(ARGV, 4)}
for _, word in ipairs({'created', now, 'ticket', ticket, 'stage', 'queued', 'status', 'NotStarted', 'changed', now,
  'revision', '1'}) do record[#record + 1] = word end
redis.call('HSET', KEYS[1], unpack(record))
local event = ARGV[1] .. '\tnew-0\t[1,"queued",0,' .. now .. ']'
local position = redis.call('XADD', KEYS[11], 'MAXLEN', '~', 5000, '*', '', event)
redis.call('PUBLISH', ARGV[3], string.match(KEYS[2], '%x+$') .. '\t' .. position .. '\n' .. event)
return now
