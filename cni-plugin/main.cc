// SPDX-License-Identifier: Apache-2.0
// fairlead-cni: the CNI plugin. It understands the runtime, makes one call to the agent and prints the answer; all that
// is decided is decided there. Installed as `loopback` it is that plugin, too.
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <expected>
#include <string>

#include "agent/base/local_protocol.h"
#include "cni-plugin/cni_request.h"
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
    if (size < 0) return std::unexpected(CniError{CniCode::kIo, "the network configuration cannot be read", {}});
    if (size == 0) return text;
    text.append(buffer, static_cast<std::size_t>(size));
    if (text.size() > kConfigurationLimit) {
      return std::unexpected(CniError{CniCode::kDecode, "the network configuration is longer than 1 MiB", {}});
    }
  }
}

int print(const Json& json, int exit_code) {
  const std::string text = json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  return written ? exit_code : 1;
}

int run() {
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
    if (!result) return print(error_result(request->cni_version, result.error()), 1);
    return request->command == "ADD" ? print(*result, 0) : 0;
  }
  const auto answer = local_call(request->socket, request->op, request->args, kDeadline);
  if (!answer) return print(error_result(request->cni_version, from_agent(request->command, answer.error())), 1);
  return request->command == "ADD" ? print(*answer, 0) : 0;
}

}  // namespace
}  // namespace fairlead::cni

int main() {
  return fairlead::cni::run();
}
