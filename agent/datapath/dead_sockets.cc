// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/dead_sockets.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sock_iter.skel.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace fairlead::datapath {

struct DeadSockets::Iterator {
  Object<sock_iter_bpf, sock_iter_bpf::destroy> skeleton;
  UniqueFd link;
};

DeadSockets::DeadSockets(std::unique_ptr<Iterator> iterator) : iterator_(std::move(iterator)) {}
DeadSockets::~DeadSockets() = default;

Result<std::unique_ptr<DeadSockets>> DeadSockets::open(const SockPrograms& programs) {
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
  return std::unique_ptr<DeadSockets>(new DeadSockets(std::move(iterator)));
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
  return program_facts(iterator_->skeleton->obj);
}

}  // namespace fairlead::datapath
