-- One request for each token of the file named on the command line, over and over. The requests are built once:
-- what is left to do while measuring is to pick the next string.
local requests, n = {}, 0

function init(args)
  for token in io.lines(args[1]) do
    n = n + 1
    requests[n] = wrk.format("GET", nil, { ["Host"] = wrk.headers["Host"], ["Authorization"] = "Bearer " .. token })
  end
end

local i = 0

function request()
  i = i % n + 1
  return requests[i]
end
