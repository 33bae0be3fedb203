// SPDX-License-Identifier: Apache-2.0
#include "test/netns/probe_round.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <set>

#include "agent/base/socket_name.h"
#include "test/netns/probes.h"

namespace fairlead::testkit {
namespace {

using namespace std::chrono_literals;

struct Message {
  std::uint32_t round;
  std::uint32_t probe;
};

UniqueFd socket_in(const PodNetns& where, Family family, std::uint8_t protocol) {
  UniqueFd fd;
  const int type = (protocol == IPPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
  where.run([&] { fd = UniqueFd(socket(family == Family::kV4 ? AF_INET : AF_INET6, type, 0)); });
  return fd;
}

bool is_connected(int fd) {
  pollfd wait{fd, POLLOUT, 0};
  int error = 0;
  socklen_t size = sizeof(error);
  return poll(&wait, 1, 0) == 1 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
}

// Closed without a word, so that nothing is left of it on the way.
void forget(int fd) {
  const linger at_once{1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

}  // namespace

Result<> ProbeTargets::serve(const BedPod& pod, const std::string& key, std::uint8_t protocol, std::uint16_t port) {
  if (protocol == IPPROTO_TCP && port == kPodPort) return {};
  UniqueFd fd = socket_in(pod.netns(), Family::kV6, protocol);
  const SocketName any = socket_name(IpAddress::from_v6({}), port);
  if (bind(fd.get(), any.get(), any.size) != 0) return fail_errno(errno, "bind");
  if (protocol == IPPROTO_UDP) {
    datagrams_.push_back({key, port, std::move(fd)});
    return {};
  }
  if (listen(fd.get(), 1024) != 0) return fail_errno(errno, "listen");
  listeners_.push_back(std::move(fd));
  return {};
}

std::vector<std::string> ProbeTargets::differences(const std::map<std::string, std::unique_ptr<BedPod>>& pods,
                                                   const std::vector<PlannedProbe>& probes) {
  ++round_;
  std::vector<UniqueFd> streams(probes.size());
  std::map<std::string, UniqueFd> senders;  // of datagrams, one a pod and family
  std::set<std::uint32_t> arrived;
  for (std::uint32_t i = 0; i < probes.size(); ++i) {
    const PlannedProbe& probe = probes[i];
    const Family family = probe.target.address.family();
    const SocketName to = socket_name(probe.target.address, probe.target.port);
    if (probe.protocol == IPPROTO_TCP) {
      streams[i] = socket_in(pods.at(probe.from)->netns(), family, probe.protocol);
      (void)!connect(streams[i].get(), to.get(), to.size);
      continue;
    }
    UniqueFd& sender = senders[fmt::format("{} {}", probe.from, static_cast<int>(family))];
    if (!sender) sender = socket_in(pods.at(probe.from)->netns(), family, probe.protocol);
    const Message message{round_, i};
    (void)!sendto(sender.get(), &message, sizeof(message), 0, to.get(), to.size);
  }
  const auto look = [&] {
    for (const Target& target : datagrams_) {
      Message message{};
      while (recv(target.fd.get(), &message, sizeof(message), 0) == sizeof(message)) {
        if (message.round == round_) arrived.insert(message.probe);
      }
    }
    for (std::uint32_t i = 0; i < probes.size(); ++i) {
      if (streams[i] && !arrived.contains(i) && is_connected(streams[i].get())) arrived.insert(i);
    }
  };
  eventually(
      [&] {
        look();
        for (std::uint32_t i = 0; i < probes.size(); ++i) {
          if (probes[i].allowed && !arrived.contains(i)) return false;
        }
        return true;
      },
      2s);
  look();
  for (const UniqueFd& stream : streams) forget(stream.get());
  for (const UniqueFd& listener : listeners_) {
    while (UniqueFd accepted{accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)}) {
      forget(accepted.get());
    }
  }
  std::vector<std::string> wrong;
  for (std::uint32_t i = 0; i < probes.size(); ++i) {
    if (probes[i].allowed == arrived.contains(i)) continue;
    wrong.push_back(fmt::format("{} to {} {}/{}: {}", probes[i].from, probes[i].to, to_string(probes[i].target),
                                probes[i].protocol == IPPROTO_TCP ? "TCP" : "UDP",
                                probes[i].allowed ? "denied" : "allowed"));
  }
  return wrong;
}

}  // namespace fairlead::testkit
