"""The Lua scripts of the keys in Redis."""

from typing import Final

# Add tokens to a set that is not full.
# KEYS[1]: the queue's set. ARGV[1]: WINDOW. ARGV[2]: the score of all tokens. ARGV[3..]: the tokens.
# Returns how many tokens were new; -1 when the set is full.
PUSH: Final = """
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return -1 end
local members = {}
for place = 3, #ARGV do
  members[2 * place - 5] = ARGV[2]
  members[2 * place - 4] = ARGV[place]
end
return redis.call('ZADD', KEYS[1], 'NX', unpack(members))
"""
# Wake workers.
# KEYS: the workers' sets. ARGV[1]: WAKE. ARGV[2]: after how many milliseconds it is deleted.
# A script, because a pipeline would set the expiry of a key that has another type.
WAKE_WORKERS: Final = """
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, 0, ARGV[1])
  redis.call('PEXPIRE', key, ARGV[2])
end
"""
# Pop the first tokens of the first set that has any.
# KEYS: the queues' sets. ARGV[i]: the largest number of tokens to pop from KEYS[i]. Returns the tokens.
TAKE: Final = """
for place, key in ipairs(KEYS) do
  local found, tokens = redis.call('ZPOPMIN', key, ARGV[place]), {}
  for each = 1, #found, 2 do tokens[#tokens + 1] = found[each] end
  if #tokens > 0 then return tokens end
end
return {}
"""
# Move a value aside that has another type. A script, because another process may move it at the same time,
# and begin to use the key: TYPE and RENAMENX must be one step.
# KEYS[1]: the key. KEYS[2..]: the names that the value may get; the first free one counts.
# ARGV[1]: the type that the key must have.
# Returns the type of the value, and the number of its new name. 0: no value had to be moved. -1: no name is
# free.
MOVE_ASIDE: Final = """
local found = redis.call('TYPE', KEYS[1]).ok
if found == ARGV[1] or found == 'none' then return {found, 0} end
for place = 2, #KEYS do
  if redis.call('RENAMENX', KEYS[1], KEYS[place]) == 1 then return {found, place - 1} end
end
return {found, -1}
"""
