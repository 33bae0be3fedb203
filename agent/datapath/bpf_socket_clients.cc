// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/bpf_socket_clients.h"

#include <cstring>

#include "agent/datapath/abi.h"

namespace fairlead::datapath {

Result<std::unique_ptr<BpfSocketClients>> BpfSocketClients::open(const SockPrograms& programs) {
  FL_LET(auto map, (Map<std::uint64_t, socket_client>::duplicate(programs.map_fd("sk_clients"))));
  return std::unique_ptr<BpfSocketClients>(new BpfSocketClients(std::move(map)));
}

Result<> BpfSocketClients::admit(std::uint64_t netns_cookie, const std::vector<IpAddress>& addresses) {
  socket_client client{};
  for (const IpAddress& address : addresses) {
    if (address.is_v4()) {
      client.v4 = address.v4_be();
    } else {
      client.v6 = to_abi_v6(address);
    }
  }
  FL_LET(const auto there, map_.lookup(netns_cookie));
  if (there && std::memcmp(&*there, &client, sizeof(client)) == 0) return {};
  return map_.update(netns_cookie, client);
}

Result<> BpfSocketClients::dismiss(std::uint64_t netns_cookie) {
  FL_TRY(map_.erase(netns_cookie));
  return {};
}

Result<std::vector<std::uint64_t>> BpfSocketClients::admitted() {
  std::vector<std::uint64_t> cookies;
  FL_TRY(map_.for_each([&](std::uint64_t cookie, const socket_client&) { cookies.push_back(cookie); }));
  return cookies;
}

}  // namespace fairlead::datapath
