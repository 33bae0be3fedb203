// SPDX-License-Identifier: Apache-2.0
#include "agent/network/device_reaper.h"

#include "agent/base/log.h"

namespace fairlead::network {

Result<std::unique_ptr<DeviceReaper>> DeviceReaper::start() {
  FL_LET(netlink::Socket socket, netlink::Socket::open());
  return std::unique_ptr<DeviceReaper>(new DeviceReaper(std::move(socket)));
}

DeviceReaper::DeviceReaper(netlink::Socket socket) : socket_(std::move(socket)), thread_([this] { loop_.run(); }) {}

DeviceReaper::~DeviceReaper() {
  loop_.stop();
}

void DeviceReaper::remove(std::uint32_t ifindex) {
  loop_.post([this, ifindex] {
    if (auto removed = socket_.delete_link(ifindex); !removed) {
      log::warn("network", "a device could not be deleted", {{"ifindex", ifindex}, {"error", removed.error()}});
    }
  });
}

}  // namespace fairlead::network
