// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/dead_sockets.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <netinet/in.h>
#include <sock_iter.skel.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "agent/base/log.h"
#include "agent/datapath/abi.h"
#include "bpf/abi/service.h"

namespace fairlead::datapath {

struct DeadSockets::Iterator {
  Object<sock_iter_bpf, sock_iter_bpf::destroy> skeleton;
  UniqueFd link;
};

DeadSockets::DeadSockets(std::unique_ptr<Iterator> iterator, ServiceMaps maps, int memory_fd)
    : iterator_(std::move(iterator)), maps_(std::move(maps)), memory_fd_(memory_fd) {}
DeadSockets::~DeadSockets() = default;

Result<std::unique_ptr<DeadSockets>> DeadSockets::open(const SockPrograms& programs) {
  FL_LET(ServiceMaps maps, ServiceMaps::open(programs));
  auto iterator = open_iterator(programs);
  if (!iterator) {
    log::info("datapath", "sockets of gone backends are looked for namespace by namespace: there is no iterator",
              {{"error", iterator.error()}});
    iterator = std::unique_ptr<Iterator>();
  }
  return std::unique_ptr<DeadSockets>(
      new DeadSockets(std::move(*iterator), std::move(maps), programs.map_fd("sk_peer")));
}

Result<std::unique_ptr<DeadSockets::Iterator>> DeadSockets::open_iterator(const SockPrograms& programs) {
  auto iterator = std::make_unique<Iterator>();
  iterator->skeleton.reset(sock_iter_bpf::open(nullptr));
  if (iterator->skeleton == nullptr) return fail_errno(errno, "open BPF object sock_iter");
  FL_TRY(load_sharing(iterator->skeleton->obj, [&](const char* map) { return programs.map_fd(map); }));
  bpf_iter_link_info info{};
  info.map.map_fd = static_cast<__u32>(programs.map_fd("sk_peer"));
  bpf_link_create_opts options{};
  options.sz = sizeof(options);
  options.iter_info = &info;
  options.iter_info_len = sizeof(info);
  const int program = bpf_program__fd(iterator->skeleton->progs.dead_sockets);
  iterator->link = UniqueFd(bpf_link_create(program, 0, BPF_TRACE_ITER, &options));
  if (!iterator->link) return fail_errno(errno, "iterator dead_sockets: attach");
  return iterator;
}

std::set<SocketAddress> DeadSockets::retired() const {
  std::set<SocketAddress> out;
  for (const Family family : {Family::kV4, Family::kV6}) {
    for (std::uint32_t id = 1; id < maps_.backend_capacity(); ++id) {
      if (!maps_.is_retired(family, id)) continue;
      const Backend backend = maps_.backend(family, id).backend;
      out.insert({backend.address, backend.port});
    }
  }
  return out;
}

std::vector<std::uint8_t> DeadSockets::memory_of(int socket) const {
  std::vector<std::uint8_t> memory(sizeof(translation));
  if (bpf_map_lookup_elem(memory_fd_, &socket, memory.data()) != 0) memory.clear();
  return memory;
}

bool DeadSockets::is_dead(std::uint8_t protocol, const SocketAddress& peer,
                          std::span<const std::uint8_t> memory) const {
  translation to{};
  if (memory.size() != sizeof(to)) return false;
  std::memcpy(&to, memory.data(), sizeof(to));
  if (to.state < TRANSLATION_READY) return false;
  const ipv6_address& there = to.backend.address;
  const bool is_v4 = there.words[0] == 0 && there.words[1] == 0 && there.words[2] == htonl(0xffff);
  // It may have been connected elsewhere since, or be disconnected.
  const SocketAddress backend{is_v4 ? from_abi(there.words[3]) : from_abi(there), ntohs(to.backend.port)};
  if (backend != peer) return false;
  if (to.backend_index >= maps_.backend_capacity()) return true;
  const BackendRecord record = maps_.backend(is_v4 ? Family::kV4 : Family::kV6, to.backend_index);
  if (record.generation != to.generation || record.service != to.service_index) return true;
  return record.state == BACKEND_GONE || (protocol == IPPROTO_UDP && record.state != BACKEND_VALID);
}

Result<std::vector<dead_socket>> DeadSockets::list() const {
  const UniqueFd walk(bpf_iter_create(iterator_->link.get()));
  if (!walk) return fail_errno(errno, "iterator dead_sockets: start");
  std::vector<dead_socket> all;
  std::vector<char> pending;  // reads may end inside a record
  char buffer[32U << 10];
  while (true) {
    const ssize_t size = ::read(walk.get(), buffer, sizeof(buffer));
    if (size < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (size < 0) return fail_errno(errno, "iterator dead_sockets: read");
    if (size == 0) return all;
    pending.insert(pending.end(), buffer, buffer + size);
    std::size_t taken = 0;
    for (; pending.size() - taken >= sizeof(dead_socket); taken += sizeof(dead_socket)) {
      std::memcpy(&all.emplace_back(), pending.data() + taken, sizeof(dead_socket));
    }
    pending.erase(pending.begin(), pending.begin() + static_cast<std::ptrdiff_t>(taken));
  }
}

Result<std::vector<ProgramFacts>> DeadSockets::facts() const {
  return can_list() ? program_facts(iterator_->skeleton->obj) : std::vector<ProgramFacts>();
}

}  // namespace fairlead::datapath
