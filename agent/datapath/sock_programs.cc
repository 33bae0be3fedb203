// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/sock_programs.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/socket.h>
#include <sys/statfs.h>

#include <bit>
#include <cerrno>
#include <fstream>
#include <utility>

#include "agent/datapath/migration.h"
#include "sock.skel.h"

namespace fairlead::datapath {

struct SockPrograms::Skeleton {
  Object<sock_bpf, sock_bpf::destroy> skeleton;
};

namespace {

// The cookie of the calling thread's network namespace.
Result<std::uint64_t> own_netns() {
  const UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  std::uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  if (!fd || getsockopt(fd.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) != 0) {
    return fail_errno(errno, "cookie of the network namespace");
  }
  return cookie;
}

}  // namespace

Result<std::string> find_cgroup2_root() {
  std::ifstream mounts("/proc/self/mounts");
  for (std::string device, path, type, rest; mounts >> device >> path >> type;) {
    std::getline(mounts, rest);
    if (type == "cgroup2") return path;
  }
  return fail(Code::kNotFound,
              "no cgroup2 is mounted; mount one (mount -t cgroup2 none /sys/fs/cgroup/unified) or name "
              "its folder with --cgroup-root");
}

namespace {

// The object with its maps' sizes set.
Result<Object<sock_bpf, sock_bpf::destroy>> open_object(const SockCapacities& capacities) {
  Object<sock_bpf, sock_bpf::destroy> skeleton(sock_bpf::open(nullptr));
  if (skeleton == nullptr) return fail_errno(errno, "open BPF object sock");
  const auto& maps = skeleton->maps;
  for (const auto& [map, entries] : {
           std::pair{maps.svc4, capacities.frontends},
           {maps.svc6, capacities.frontends},
           {maps.services, capacities.services},
           {maps.runs, capacities.run_slots},
           {maps.backends4, capacities.backends},
           {maps.backends6, capacities.backends},
           {maps.use4, capacities.backends},
           {maps.use6, capacities.backends},
           {maps.affinity4, capacities.affinities},
           {maps.affinity6, capacities.affinities},
           {maps.sk_clients, capacities.clients},
           {maps.sk_memory, capacities.connected},
           {maps.sk_spill, capacities.spilled},
       }) {
    const int status = bpf_map__set_max_entries(map, entries);
    if (status != 0) return fail_errno(-status, fmt::format("map {}: set its capacity", bpf_map__name(map)));
  }
  if (!std::has_single_bit(capacities.connected)) {
    return fail(Code::kInvalid, "map sk_memory: its capacity, {}, is no power of two", capacities.connected);
  }
  skeleton->rodata->service_elements = capacities.services;
  skeleton->rodata->sk_memory_mask = capacities.connected - 1;
  FL_LET(skeleton->rodata->node_netns, own_netns());
  return skeleton;
}

}  // namespace

Result<std::vector<std::string>> SockPrograms::changed_maps(const BpfRoot& root, const SockCapacities& capacities) {
  FL_LET(const auto skeleton, open_object(capacities));
  return datapath::changed_maps(root, skeleton->obj);
}

Result<std::unique_ptr<SockPrograms>> SockPrograms::load(const BpfRoot& root, const SockCapacities& capacities,
                                                         Migration* migration) {
  FL_LET(auto skeleton, open_object(capacities));
  FL_TRY(migration != nullptr ? migration->load(skeleton->obj) : load_object(skeleton->obj, root));
  return std::unique_ptr<SockPrograms>(new SockPrograms(root, std::make_unique<Skeleton>(std::move(skeleton))));
}

SockPrograms::SockPrograms(const BpfRoot& root, std::unique_ptr<Skeleton> skeleton)
    : root_(root), skeleton_(std::move(skeleton)) {}

SockPrograms::~SockPrograms() = default;

Result<> SockPrograms::attach(const std::string& cgroup_root) {
  const UniqueFd cgroup(::open(cgroup_root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!cgroup) return fail_errno(errno, fmt::format("cgroup {}: open", cgroup_root));
  struct statfs filesystem{};
  if (fstatfs(cgroup.get(), &filesystem) != 0) return fail_errno(errno, fmt::format("cgroup {}: statfs", cgroup_root));
  if (static_cast<unsigned long>(filesystem.f_type) != CGROUP2_SUPER_MAGIC) {
    return fail(Code::kInvalid, "cgroup {} is not in a cgroup2 hierarchy; give one with --cgroup-root", cgroup_root);
  }
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, skeleton_->skeleton->obj) {
    FL_TRY(attach_pinned(cgroup_attachment(program, cgroup.get()), root_));
  }
  return {};
}

int SockPrograms::map_fd(const char* name) const {
  return bpf_object__find_map_fd_by_name(skeleton_->skeleton->obj, name);
}

Result<std::vector<ProgramFacts>> SockPrograms::facts() const {
  return program_facts(skeleton_->skeleton->obj);
}

}  // namespace fairlead::datapath
