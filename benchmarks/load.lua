-- wrk's side of every row: the request that a mode asks for, and one line of figures at the end.
--
--     wrk ... -s load.lua URL -- MODE ARGUMENTS...
--
-- A mode that defines the global `request` makes wrk call it for every send; one that does not keeps wrk on
-- its prebuilt request.

local modes = {}

function modes.plain() end

-- COUNT requests in one send.
function modes.pipeline(count)
  local requests = {}
  for i = 1, tonumber(count) do requests[i] = wrk.format() end
  local joined = table.concat(requests)
  request = function() return joined end
end

local function many_path(number)
  return string.format("/many/%03d/%06d.html", math.floor(number / 1000), number)
end

-- A file of /many/ by uniform chance, COUNT in all.
function modes.random(count)
  local total = tonumber(count)
  math.randomseed(os.time())
  request = function() return wrk.format(nil, many_path(math.random(0, total - 1))) end
end

-- The files of /many/ one after another, COUNT in all.
function modes.sequence(count)
  local total, number = tonumber(count), -1
  request = function()
    number = (number + 1) % total
    return wrk.format(nil, many_path(number))
  end
end

function init(arguments)
  modes[arguments[1]](arguments[2])
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\nFIGURES {"requests": %d, "bytes": %d, "duration_us": %d, "connect": %d, "read": %d, "write": %d, ' ..
    '"timeout": %d, "status": %d}\n',
    summary.requests, summary.bytes, summary.duration,
    errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
