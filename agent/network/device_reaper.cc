// SPDX-License-Identifier: Apache-2.0
#include "agent/network/device_reaper.h"

#include <string>
#include <utility>

#include "agent/base/log.h"

namespace fairlead::network {

Result<std::unique_ptr<DeviceReaper>> DeviceReaper::start() {
  FL_LET(netlink::Socket socket, netlink::Socket::open());
  return std::unique_ptr<DeviceReaper>(new DeviceReaper(std::move(socket)));
}

DeviceReaper::DeviceReaper(netlink::Socket socket) : socket_(std::move(socket)) {
  thread_.start();
}

void DeviceReaper::remove(std::uint32_t ifindex) {
  thread_.loop().post([this, ifindex] {
    // What was asked for by now is in the loop's queue, before this.
    if (doomed_.empty()) thread_.loop().post([this] { delete_doomed(); });
    doomed_.push_back(ifindex);
  });
}

void DeviceReaper::delete_doomed() {
  const std::vector<std::uint32_t> all = std::exchange(doomed_, {});
  if (auto removed = socket_.delete_links(all); !removed) {
    log::warn("network", "devices could not be deleted",
              {{"count", std::to_string(all.size())}, {"error", removed.error()}});
  }
}

}  // namespace fairlead::network
