// SPDX-License-Identifier: Apache-2.0
// BpfSocketClients: the network namespaces in which the socket hooks act, in map sk_clients.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "agent/datapath/load_balancer.h"
#include "agent/datapath/map.h"
#include "agent/datapath/sock_programs.h"
#include "bpf/abi/service.h"

namespace fairlead::datapath {

// Owner: main; thread: the network domain's loop. Keeps no copy: the map is the state. Cost: one or two system calls.
class BpfSocketClients final : public SocketClients {
 public:
  static Result<std::unique_ptr<BpfSocketClients>> open(const SockPrograms& programs);

  Result<> admit(std::uint64_t netns_cookie, const std::vector<IpAddress>& addresses) override;
  Result<> dismiss(std::uint64_t netns_cookie) override;
  Result<std::vector<std::uint64_t>> admitted() override;

 private:
  explicit BpfSocketClients(Map<std::uint64_t, socket_client> map) : map_(std::move(map)) {}
  Map<std::uint64_t, socket_client> map_;
};

}  // namespace fairlead::datapath
