// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/socket_memories.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <optional>
#include <span>
#include <utility>

#include "agent/datapath/abi.h"
#include "bpf/abi/service.h"

namespace fairlead::datapath {
namespace {

// A part of the array, mapped for as long as this lives: the kernel counts every mapped page as the agent's.
class Window {
 public:
  static constexpr std::uint32_t kSize = (1U << 20) / sizeof(socket_memory);  // elements

  // The window that element `index` of `map` is in.
  static Result<Window> open(const Map<std::uint32_t, socket_memory>& map, std::uint32_t index) {
    const std::uint32_t first = index / kSize * kSize;
    const std::uint32_t count = std::min(kSize, map.capacity() - first);
    void* place = mmap(nullptr, count * sizeof(socket_memory), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                       map.fd(), static_cast<off_t>(first * sizeof(socket_memory)));
    if (place == MAP_FAILED) return fail_errno(errno, fmt::format("map {}: mmap", map.name()));
    return Window(first, {static_cast<socket_memory*>(place), count});
  }
  Window(Window&& other) noexcept : first_(other.first_), elements_(std::exchange(other.elements_, {})) {}
  Window& operator=(Window&&) = delete;
  ~Window() {
    if (elements_.data() != nullptr) munmap(elements_.data(), elements_.size_bytes());
  }

  std::span<socket_memory> elements() const { return elements_; }
  socket_memory& operator[](std::uint32_t index) const { return elements_[index - first_]; }

 private:
  Window(std::uint32_t first, std::span<socket_memory> elements) : first_(first), elements_(elements) {}
  std::uint32_t first_;
  std::span<socket_memory> elements_;
};

using Words = std::array<std::uint64_t, sizeof(socket_memory) / sizeof(std::uint64_t)>;

Words load(const socket_memory& memory) {
  auto* from = reinterpret_cast<std::uint64_t*>(const_cast<socket_memory*>(&memory));
  Words words{};
  for (std::uint64_t& word : words) word = std::atomic_ref(*from++).load(std::memory_order_acquire);
  return words;
}

// One that is whole; none where a hook is changing it.
std::optional<socket_memory> read(const socket_memory& memory) {
  const Words words = load(memory);
  if (words != load(memory)) return {};
  const auto seen = std::bit_cast<socket_memory>(words);
  return seen.cookie != 0 && seen.protocol != 0 ? std::optional(seen) : std::nullopt;
}

ConnectedSocket connected_socket(std::uint32_t index, const socket_memory& memory) {
  return {.index = index,
          .cookie = memory.cookie,
          .netns = memory.netns,
          .protocol = static_cast<std::uint8_t>(memory.protocol),
          .backend = {from_mapped(memory.backend), ntohs(memory.backend_port)},
          .backend_index = memory.backend_index,
          .generation = memory.generation};
}

}  // namespace

Result<std::unique_ptr<SocketMemories>> SocketMemories::open(const SockPrograms& programs) {
  FL_LET(ServiceMaps maps, ServiceMaps::open(programs));
  FL_LET(auto memories, (Map<std::uint32_t, socket_memory>::duplicate(programs.map_fd("sk_memory"))));
  return std::unique_ptr<SocketMemories>(new SocketMemories(std::move(maps), std::move(memories)));
}

Result<> SocketMemories::visit(const std::function<void(std::uint32_t, socket_memory&)>& visit) const {
  for (std::uint32_t index = 0; index < memories_.capacity();) {
    FL_LET(const Window window, Window::open(memories_, index));
    for (socket_memory& memory : window.elements()) {
      if (std::atomic_ref(memory.cookie).load(std::memory_order_relaxed) != 0) visit(index, memory);
      ++index;
    }
  }
  return {};
}

bool SocketMemories::is_dead(const socket_memory& memory) const {
  if (memory.backend_index >= maps_.backend_capacity()) return true;
  const Family family = is_mapped(memory.backend) ? Family::kV4 : Family::kV6;
  const BackendRecord record = maps_.backend(family, memory.backend_index);
  if (record.generation != memory.generation || record.state == BACKEND_GONE) return true;
  return memory.protocol == IPPROTO_UDP && record.state != BACKEND_VALID;
}

Result<SocketMemories::Look> SocketMemories::look() const {
  Look out;
  FL_TRY(visit([&](std::uint32_t index, socket_memory& memory) {
    ++out.taken;
    const auto seen = read(memory);
    if (!seen || (seen->cookie & SOCKET_MEMORY_LOST) != 0 || !is_dead(*seen)) return;
    out.dead.push_back(connected_socket(index, *seen));
  }));
  return out;
}

bool SocketMemories::is_still(const ConnectedSocket& socket) const {
  const auto found = memories_.lookup(socket.index);
  return found && *found && (*found)->cookie == socket.cookie && (*found)->backend_index == socket.backend_index &&
         (*found)->generation == socket.generation;
}

Result<std::size_t> SocketMemories::sweep(const std::function<bool(std::uint32_t, std::uint64_t)>& is_there) {
  std::vector<std::uint32_t> lost;
  std::set<std::uint64_t> missed;
  FL_TRY(visit([&](std::uint32_t index, socket_memory& memory) {
    auto cookie = std::atomic_ref(memory.cookie).load();
    if ((cookie & SOCKET_MEMORY_LOST) != 0) {
      lost.push_back(index);
    } else if (cookie != 0 && !is_there(memory.netns, cookie)) {
      if (missed_.contains(cookie)) {
        std::atomic_ref(memory.cookie).compare_exchange_strong(cookie, cookie | SOCKET_MEMORY_LOST);
      } else {
        missed.insert(cookie);
      }
    }
  }));
  missed_ = std::move(missed);
  for (const std::uint32_t index : lost) FL_TRY(free(index));
  return lost.size();
}

Result<> SocketMemories::free(std::uint32_t index) {
  FL_LET(const Window window, Window::open(memories_, index));
  socket_memory& memory = window[index];
  const auto home_index = static_cast<std::uint32_t>(memory.cookie & (memories_.capacity() - 1));
  FL_LET(const Window there, Window::open(memories_, home_index));
  maps_.connection_closed(is_mapped(memory.backend) ? Family::kV4 : Family::kV6, memory.backend_index,
                          memory.generation);
  store(memory.protocol, 0);
  store(memory.cookie, 0);
  if (home_index != index) std::atomic_ref(there[home_index].displaced).fetch_sub(1);
  return {};
}

}  // namespace fairlead::datapath
