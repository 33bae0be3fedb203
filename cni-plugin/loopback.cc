// SPDX-License-Identifier: Apache-2.0
#include "cni-plugin/loopback.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <spdlog/fmt/fmt.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "agent/base/unique_fd.h"

namespace fairlead::cni {
namespace {

std::unexpected<CniError> failed(CniCode code, const CniRequest& request, const char* step) {
  return std::unexpected(
      CniError{code, fmt::format("loopback in {}: {}: {}", request.netns, step, strerror(errno)), {}});
}

Json loopback_result(const CniRequest& request) {
  Json v4{{"address", "127.0.0.1/8"}, {"interface", 0}};
  Json v6{{"address", "::1/128"}, {"interface", 0}};
  if (request.cni_version.starts_with("0.")) {
    v4["version"] = "4";
    v6["version"] = "6";
  }
  const Json interface{{"name", "lo"}, {"mac", "00:00:00:00:00:00"}, {"sandbox", request.netns}};
  return {{"cniVersion", request.cni_version},
          {"interfaces", Json::array({interface})},
          {"ips", Json::array({v4, v6})},
          {"dns", Json::object()}};
}

}  // namespace

std::expected<Json, CniError> run_loopback(const CniRequest& request) {
  if (request.command != "ADD" && request.command != "CHECK") return Json::object();  // nothing is kept
  const UniqueFd netns(open(request.netns.c_str(), O_RDONLY | O_CLOEXEC));
  if (!netns) return failed(CniCode::kInvalidEnvironment, request, "open");
  if (setns(netns.get(), CLONE_NEWNET) != 0) return failed(CniCode::kInvalidEnvironment, request, "enter");
  const UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq device{};
  std::strcpy(device.ifr_name, "lo");
  if (!fd || ioctl(fd.get(), SIOCGIFFLAGS, &device) != 0) return failed(CniCode::kInternal, request, "read lo's flags");
  const bool up = (device.ifr_flags & IFF_UP) != 0;
  if (request.command == "CHECK") {
    if (up) return Json::object();
    return std::unexpected(CniError{CniCode::kInternal, fmt::format("loopback in {} is down", request.netns), {}});
  }
  device.ifr_flags = static_cast<short>(device.ifr_flags | IFF_UP);
  if (!up && ioctl(fd.get(), SIOCSIFFLAGS, &device) != 0) return failed(CniCode::kInternal, request, "set lo up");
  return loopback_result(request);
}

}  // namespace fairlead::cni
