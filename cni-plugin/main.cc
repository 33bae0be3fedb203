// SPDX-License-Identifier: Apache-2.0
// fairlead-cni: the CNI plugin. It understands the runtime, makes one call to the agent and prints the answer; all that
// is decided is decided there. Installed as `loopback` it is that plugin, too.
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <expected>
#include <string>

#include "agent/base/cni_spool.h"
#include "agent/base/local_protocol.h"
#include "cni-plugin/cni_request.h"
#include "cni-plugin/cni_result.h"
#include "cni-plugin/loopback.h"

namespace fairlead::cni {
namespace {

constexpr std::size_t kConfigurationLimit = 1U << 20;  // bytes
constexpr Duration kDeadline = std::chrono::seconds(30);

std::expected<std::string, CniError> read_stdin() {
  std::string text;
  char buffer[4096];
  while (true) {
    const ssize_t size = read(STDIN_FILENO, buffer, sizeof(buffer));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return std::unexpected(CniError{CniCode::kIo, "the network configuration cannot be read"});
    if (size == 0) return text;
    text.append(buffer, static_cast<std::size_t>(size));
    if (text.size() > kConfigurationLimit) {
      return std::unexpected(CniError{CniCode::kDecode, "the network configuration is longer than 1 MiB"});
    }
  }
}

int print(const Json& json, int exit_code) {
  const std::string text = json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  return written ? exit_code : 1;
}

int fail(const CniRequest& request, const CniError& error) {
  return print(error_result(request.cni_version, error), 1);
}

// Whether no agent has heard, or will say what became of it.
bool is_away(const Error& error) {
  return error.code == Code::kUnavailable || error.code == Code::kTimeout || error.code == Code::kCancelled;
}

// A DEL succeeds without an agent: it is written down for the next one. One that starts reads that after it listens, so
// either it finds the record or the second call finds the agent.
int run_del(const CniRequest& request, std::int64_t asked_ns) {
  auto answer = local_call(request.socket(), request.op, request.args, kDeadline);
  if (answer) return 0;
  if (!is_away(answer.error())) return fail(request, from_agent(request.command, answer.error()));
  const auto spooled = spool_del(request.run_dir, request.container, request.ifname, asked_ns);
  if (answer.error().code == Code::kUnavailable)
    answer = local_call(request.socket(), request.op, request.args, kDeadline);
  if (spooled || answer) return 0;
  return fail(request, {CniCode::kIo, fmt::format("no agent took the DEL and it cannot be recorded for later: {}",
                                                  spooled.error().message())});
}

int run() {
  const std::int64_t asked_ns = boot_time_ns();
  const auto configuration = read_stdin();
  if (!configuration) return print(error_result({}, configuration.error()), 1);
  const auto environment = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  const auto request = parse_request(environment, *configuration);
  if (!request) return print(error_result({}, request.error()), 1);
  if (request->command == "VERSION") return print(version_result(request->cni_version), 0);
  if (request->loopback) {
    const auto result = run_loopback(*request);
    if (!result) return fail(*request, result.error());
    return request->command == "ADD" ? print(*result, 0) : 0;
  }
  if (request->command == "DEL") return run_del(*request, asked_ns);
  if (const auto readable = add_result(*request, Json::object()); !readable) return fail(*request, readable.error());
  const auto answer = local_call(request->socket(), request->op, request->args, kDeadline);
  if (!answer) return fail(*request, from_agent(request->command, answer.error()));
  if (request->command == "STATUS") {
    const auto status = status_result(*answer);
    return status ? 0 : fail(*request, status.error());
  }
  if (request->command != "ADD") return 0;
  const auto result = add_result(*request, *answer);
  return result ? print(*result, 0) : fail(*request, result.error());
}

}  // namespace
}  // namespace fairlead::cni

int main() {
  return fairlead::cni::run();
}
