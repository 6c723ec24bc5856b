-- Chat requests for wrk. Arguments: a file of shared beginnings, one a line; a file with what follows; first number;
-- true or false for streams; a bearer token, or -. Each request takes the next beginning, and a number of its own, of
-- 12 digits, in place of the rest's first 12 bytes: from there on no two prompts are the same.
local beginnings, rest, number, stream, token = {}, "", 0, "false", "-"

function init(args)
  for line in io.lines(args[1]) do beginnings[#beginnings + 1] = line end
  rest = io.open(args[2]):read("*a"):sub(13) .. '"}],"stream":' .. args[4]
  if args[4] == "true" then rest = rest .. ',"stream_options":{"include_usage":true}' end
  rest = rest .. "}"
  number = tonumber(args[3])
  local head = "POST /v1/chat/completions HTTP/1.1\r\nhost: models.example\r\ncontent-type: application/json\r\n" ..
    "accept: application/json\r\nuser-agent: OpenAI/Python 2.8.0\r\nx-stainless-lang: python\r\n" ..
    "x-stainless-package-version: 2.8.0\r\nx-stainless-os: Linux\r\n"
  if args[5] ~= "-" then head = head .. "authorization: Bearer " .. args[5] .. "\r\n" end
  for n, line in ipairs(beginnings) do
    local length = #line + 12 + #rest
    beginnings[n] = head .. "content-length: " .. length .. "\r\n\r\n" .. line
  end
end

function request()
  number = number + 1
  return beginnings[number % #beginnings + 1] .. string.format("%012d", number) .. rest
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\nRESULT {"requests":%d,"seconds":%.6f,"failed":%d,"p50":%d,"p90":%d,"p99":%d,"max":%d}\n',
    summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end
