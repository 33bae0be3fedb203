// SPDX-License-Identifier: Apache-2.0
// The agent's local protocol: one request, one answer, over RUN_DIR/agent.sock. A message is a 4-byte big-endian length
// and that many bytes of JSON.
//
//   request  {"op": "cni.add", "args": {…}}
//   answer   {"ok": true, "result": …}   or   {"ok": false, "error": {"code": "not-found", "message": "…"}}
//
// The codes are those of Code (result.h). Shared by fairlead-cni and fairleadctl (blocking client) and agent/server.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/clock.h"
#include "agent/base/result.h"

namespace fairlead {

using Json = nlohmann::json;

inline constexpr std::size_t kLocalMessageLimit = 16U << 20;  // bytes; a longer message ends the connection

// Asks the agent and waits. kUnavailable: no agent there (the text says which socket); kTimeout: it did not answer in
// time; else the agent's own error.
Result<Json> local_call(const std::string& socket_path, const std::string& op, const Json& args, Duration deadline);

// Length prefix + text, as it goes over the socket. Bytes that are not UTF-8 are replaced.
std::string encode_local_message(const Json& message);
// Takes the first whole message out of what was received so far; nullopt: more has to come. kInvalid: longer than
// `limit`, or not JSON; the connection is of no further use.
Result<std::optional<Json>> take_local_message(std::string& received, std::size_t limit = kLocalMessageLimit);

// An answer as it is sent, and as the asking side reads it.
Json encode_local_answer(const Result<Json>& result);
Result<Json> decode_local_answer(const Json& answer);

// What a domain tells about itself; `op` is the request's ("service.list"), `args` its arguments. Answered with JSON.
struct Inspect {
  std::string op;
  Json args;
};

}  // namespace fairlead
