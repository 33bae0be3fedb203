// SPDX-License-Identifier: Apache-2.0
// fl-load-objects BPF_ROOT CGROUP: loads every BPF object the way the agent does, attaches it (cgroup hooks to CGROUP,
// filters to a veth of its own) and prints one JSON object a line: what the verifier had to do, and how it ended.
// Runs where kernels_test puts it: in namespaces on this kernel, as the only program of a guest on another.
#include <fcntl.h>
#include <sys/utsname.h>

#include <cerrno>
#include <iostream>
#include <nlohmann/json.hpp>

#include "agent/base/unique_fd.h"
#include "agent/datapath/bpf_node_paths.h"
#include "agent/datapath/migration.h"
#include "agent/datapath/pod_programs.h"
#include "agent/datapath/sock_programs.h"
#include "agent/datapath/socket_memories.h"
#include "agent/netlink/socket.h"

namespace fairlead {
namespace {

void print(const nlohmann::json& line) {
  std::cout << line.dump() << std::endl;
}

void print(const char* object, const std::vector<datapath::ProgramFacts>& programs) {
  for (const auto& program : programs) {
    print({{"object", object}, {"program", program.name}, {"instructions", program.verified_instructions}});
  }
}

Result<std::uint32_t> make_veth() {
  FL_LET(netlink::Socket socket, netlink::Socket::open());
  const UniqueFd here(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  FL_LET(const netlink::VethEnds ends, socket.create_veth({.name = "host0",
                                                           .mac = {2, 0, 0, 0, 0, 1},
                                                           .peer_name = "pod0",
                                                           .peer_mac = {2, 0, 0, 0, 0, 2},
                                                           .peer_netns = here.get(),
                                                           .mtu = 1450}));
  return ends.ifindex;
}

Result<> load_all(const std::string& bpf_root, const std::string& cgroup) {
  FL_LET(const datapath::BpfRoot root, datapath::BpfRoot::open(bpf_root));
  FL_LET(const auto sock, datapath::SockPrograms::load(root, {}));
  FL_TRY(sock->attach(cgroup));
  FL_LET(const auto sock_facts, sock->facts());
  print("sock", sock_facts);
  FL_LET(const auto memories, datapath::SocketMemories::open(*sock));
  FL_TRY(memories->look());
  FL_LET(const auto pod, datapath::BpfPodPrograms::load(root));
  FL_LET(const std::uint32_t veth, make_veth());
  FL_TRY(pod->attach(veth));
  FL_LET(const auto pod_facts, pod->facts());
  print("pod", pod_facts);
  FL_LET(const auto paths, datapath::BpfNodePaths::load(*pod, root));
  FL_TRY(paths->attach_uplink(veth));
  FL_LET(const bool attached, paths->attached(veth));
  if (!attached) return fail(Code::kSystem, "device #{}: its programs are not there", veth);
  FL_TRY(paths->detach(veth));
  FL_TRY(paths->attach_tunnel(veth));
  FL_LET(const auto path_facts, paths->facts());
  for (const auto& [object, programs] : path_facts) print(object.c_str(), programs);
  // The programs that move connections look into two sets of maps.
  return datapath::migrate_maps(root, cgroup, {.connections = 65'536, .translated = 65'536, .services = {}});
}

}  // namespace
}  // namespace fairlead

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: fl-load-objects BPF_ROOT CGROUP\n";
    return 2;
  }
  utsname kernel{};
  uname(&kernel);
  fairlead::print({{"kernel", kernel.release}});
  const auto loaded = fairlead::load_all(argv[1], argv[2]);
  fairlead::print({{"loaded", loaded.has_value()}, {"error", loaded ? "" : loaded.error().message()}});
  return loaded ? 0 : 1;
}
