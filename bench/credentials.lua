-- One request for each line of a file, over and over, which it sends in a header. The arguments are the header's name, the file, and
-- how many lines were sent before. The requests are built once: what is left to do while measuring is to pick the next string.
local requests, n, i = {}, 0, 0

function init(args)
  for value in io.lines(args[2]) do
    n = n + 1
    requests[n] = wrk.format("GET", nil, { ["Host"] = wrk.headers["Host"], [args[1]] = value })
  end
  i = tonumber(args[3])
end

function request()
  i = i % n + 1
  return requests[i]
end
