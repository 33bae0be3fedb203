// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/drop_events.h"

#include <arpa/inet.h>
#include <bpf/libbpf.h>

#include <cstring>

#include "agent/datapath/abi.h"
#include "agent/datapath/pod_programs.h"
#include "bpf/abi/drop.h"
#include "bpf/abi/event.h"

namespace fairlead::datapath {
namespace {

std::string_view reason_name(std::uint32_t reason) {
  switch (reason) {
#define REASON_NAME(number, constant, name) \
  case number:                              \
    return name;
    DROP_REASONS(REASON_NAME)
#undef REASON_NAME
    default:
      return "unknown";
  }
}

SocketAddress end_of(const ipv6_address& address, std::uint16_t port_be) {
  return {from_mapped(address), ntohs(port_be)};
}

}  // namespace

struct DropEvents::Ring {
  ring_buffer* buffer = nullptr;
  const std::function<void(const Drop&)>* visit = nullptr;
  ~Ring() { ring_buffer__free(buffer); }
};

DropEvents::DropEvents(std::unique_ptr<Ring> ring) : ring_(std::move(ring)) {}
DropEvents::~DropEvents() = default;

Result<std::unique_ptr<DropEvents>> DropEvents::open(const BpfPodPrograms& programs) {
  auto ring = std::make_unique<Ring>();
  const auto take = [](void* context, void* data, std::size_t size) {
    drop_event event;
    if (size < sizeof(event)) return 0;
    std::memcpy(&event, data, sizeof(event));
    if (event.kind != EVENT_DROP) return 0;
    (*static_cast<Ring*>(context)->visit)({.reason = reason_name(event.reason),
                                           .ifindex = event.ifindex,
                                           .isolated = event.isolated,
                                           .to_pod = event.to_pod != 0,
                                           .packets = event.packets,
                                           .length = event.length,
                                           .protocol = event.protocol,
                                           .source = end_of(event.source, event.source_port),
                                           .destination = end_of(event.destination, event.destination_port)});
    return 0;
  };
  ring->buffer = ring_buffer__new(programs.map_fd("events"), take, ring.get(), nullptr);
  if (ring->buffer == nullptr) return fail_errno(errno, "map events: read it");
  return std::unique_ptr<DropEvents>(new DropEvents(std::move(ring)));
}

int DropEvents::fd() const {
  return ring_buffer__epoll_fd(ring_->buffer);
}

Result<> DropEvents::read(const std::function<void(const Drop&)>& visit) {
  ring_->visit = &visit;
  const int count = ring_buffer__consume(ring_->buffer);
  if (count < 0) return fail_errno(-count, "map events: read");
  return {};
}

}  // namespace fairlead::datapath
