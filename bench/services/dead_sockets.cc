// SPDX-License-Identifier: Apache-2.0
#include "bench/services/dead_sockets.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/loop_thread.h"
#include "agent/datapath/socket_memories.h"
#include "agent/sockets/socket_ender.h"
#include "bench/lib/large_cluster.h"
#include "bench/services/bed.h"
#include "test/kit/echo.h"
#include "test/kit/own_node.h"

namespace fairlead::bench {
namespace {

using Clock = std::chrono::steady_clock;
using testkit::Client;
using testkit::PodNetns;

constexpr std::uint32_t kPods = 100;
constexpr std::uint32_t kSocketsOfPod = 4;
constexpr std::uint32_t kSockets = kPods * kSocketsOfPod;
constexpr std::uint32_t kServices = 40;
constexpr std::uint32_t kSocketsOfBackend = kSockets / kServices;  // each in another pod
constexpr std::uint32_t kRemovals = 1000;
constexpr int kPatienceMs = 10'000;
constexpr double kGoalMs = 20;

using Sockets = std::array<std::uint32_t, kSocketsOfBackend>;

// Its backend of this generation is the only one; none is ever seen twice.
datapath::ServiceEntry entry(std::uint32_t service, std::uint32_t generation) {
  static const LargeCluster cluster{.services = kServices, .endpoints = kRemovals / kServices + 2};
  return {.frontends = {{LargeCluster::cluster_ip(service), LargeCluster::kPort, Protocol::kUdp}},
          .backends = {{cluster.endpoint(service, generation), LargeCluster::kTargetPort}}};
}

Result<std::vector<PodNetns>> make_pods() {
  std::vector<PodNetns> pods;
  for (std::uint32_t i = 0; i < kPods; ++i) {
    FL_LET(auto pod, PodNetns::make(fmt::format("pod{}", i)));
    FL_TRY(must(fmt::format("{0} ip link set lo up && {0} ip route add local {1} dev lo", inside(pod),
                            LargeCluster::kEndpointCidr)));
    pods.push_back(std::move(pod));
  }
  return pods;
}

// An agent's share: Services in the maps, and who ends sockets, on a thread of its own.
class Agent {
 public:
  static Result<std::unique_ptr<Agent>> start(const std::vector<PodNetns>& pods) {
    std::unique_ptr<Agent> agent(new Agent);
    const std::string node = fmt::format("{}/{}", testkit::kCgroup2, testkit::node_cgroup());
    FL_LET(auto cgroup, testkit::TestCgroup::make(node, "dead-sockets"));
    agent->cgroup_.emplace(std::move(cgroup));
    FL_TRY(agent->cgroup_->enter());
    FL_TRY(agent->load());
    FL_TRY(agent->serve(pods));
    return agent;
  }
  ~Agent() {
    thread_.join();
    if (root_) (void)root_->clear();  // the bpffs ends with the process
  }

  datapath::BpfLoadBalancer& balancer() { return *balancer_; }

 private:
  Agent() = default;

  Result<> load() {
    FL_LET(auto root, datapath::BpfRoot::open(testkit::bpffs() + "/dead-sockets"));
    root_.emplace(std::move(root));
    FL_LET(programs_, datapath::SockPrograms::load(*root_, {}));
    auto [gone, reader] = make_channel<datapath::BackendsGone>();
    FL_LET(balancer_, datapath::BpfLoadBalancer::open(*programs_, gone));
    FL_LET(admitted_, datapath::BpfSocketClients::open(*programs_));
    FL_TRY(programs_->attach(cgroup_->path()));
    FL_LET(memories_, datapath::SocketMemories::open(*programs_));
    ender_.emplace(
        thread_.loop(), clock_,
        sockets::SocketEnder::Deps{
            .namespaces = table_.reader(), .gone = std::move(reader), .memories = *memories_, .registry = registry_});
    return {};
  }

  Result<> serve(const std::vector<PodNetns>& pods) {
    std::vector<std::pair<std::string, std::shared_ptr<const model::ServedNetns>>> rows;
    for (const PodNetns& pod : pods) {
      const std::uint64_t cookie = cookie_of(pod);
      FL_TRY(admitted_->admit(cookie, {}));
      rows.emplace_back(pod.path(), std::make_shared<const model::ServedNetns>(
                                        model::ServedNetns{.cookie = cookie, .path = pod.path()}));
    }
    thread_.start();
    table_.writer("network").replace(std::move(rows));
    return {};
  }

  SystemClock clock_;
  metrics::Registry registry_;
  std::optional<testkit::TestCgroup> cgroup_;
  std::optional<datapath::BpfRoot> root_;
  std::unique_ptr<datapath::SockPrograms> programs_;
  std::unique_ptr<datapath::BpfLoadBalancer> balancer_;
  std::unique_ptr<datapath::BpfSocketClients> admitted_;
  std::unique_ptr<datapath::SocketMemories> memories_;
  state::Table<model::ServedNetns> table_{std::vector<std::string>{"network"}};
  LoopThread thread_{"sockets"};
  std::optional<sockets::SocketEnder> ender_;
};

// The pods' sockets, each connected to a ClusterIP: number n is pod n / kSocketsOfPod's and service n % kServices's.
class Clients {
 public:
  explicit Clients(const std::vector<PodNetns>& pods) : pods_(pods), sockets_(kSockets) {}

  // Anew, where it is there already.
  Result<> connect(std::uint32_t number) {
    const testkit::Endpoint to{LargeCluster::cluster_ip(number % kServices), LargeCluster::kPort};
    Result<> done;
    pods_[number / kSocketsOfPod].run([&] {
      done = [&]() -> Result<> {
        FL_LET(auto client, Client::make(Family::kV4, Protocol::kUdp));
        FL_TRY(client.connect(to));
        sockets_[number].emplace(std::move(client));
        return {};
      }();
    });
    FL_TRY(std::move(done));
    epoll_event event{.events = EPOLLONESHOT, .data = {.u32 = number}};  // EPOLLERR is always told
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, sockets_[number]->fd(), &event) != 0) return fail_errno(errno, "epoll");
    return {};
  }

  // Waits until as many as one backend has are in error: which.
  Result<Sockets> wait() const {
    Sockets ended{};
    for (std::size_t seen = 0; seen < ended.size();) {
      std::array<epoll_event, kSocketsOfBackend> events{};
      const int count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(ended.size() - seen), kPatienceMs);
      if (count < 0) return fail_errno(errno, "epoll_wait");
      if (count == 0) return fail(Code::kTimeout, "{} of {} sockets ended", seen, ended.size());
      for (int i = 0; i < count; ++i) ended[seen++] = events[static_cast<std::size_t>(i)].data.u32;
    }
    return ended;
  }

  // Fails unless it is service's, and was ended.
  Result<> check(std::uint32_t number, std::uint32_t service) const {
    int error = 0;
    socklen_t size = sizeof(error);
    getsockopt(sockets_[number]->fd(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (number % kServices == service && error == ECONNABORTED) return {};
    return fail(Code::kInvalid, "socket {} has error {} as service {} loses its backend", number, error, service);
  }

 private:
  const std::vector<PodNetns>& pods_;
  std::vector<std::optional<Client>> sockets_;
  UniqueFd epoll_{epoll_create1(EPOLL_CLOEXEC)};
};

// Milliseconds from the call that publishes the service without its backend until all of that one's sockets have ended;
// afterwards they are connected to its successor.
Result<double> remove_backend(Agent& agent, Clients& clients, std::uint32_t service, std::uint32_t generation) {
  const datapath::ServiceEntry next = entry(service, generation + 1);
  const std::string name = std::to_string(service);
  const auto begin = Clock::now();
  FL_TRY(agent.balancer().apply(name, next));
  FL_LET(const Sockets ended, clients.wait());
  const std::chrono::duration<double, std::milli> took = Clock::now() - begin;
  for (const std::uint32_t number : ended) {
    FL_TRY(clients.check(number, service));
    FL_TRY(clients.connect(number));
  }
  return took.count();
}

}  // namespace

Result<> measure_dead_sockets(Report& report) {
  FL_LET(const auto pods, make_pods());
  FL_LET(const auto agent, Agent::start(pods));
  Clients clients(pods);
  for (std::uint32_t service = 0; service < kServices; ++service) {
    FL_TRY(agent->balancer().apply(std::to_string(service), entry(service, 0)));
  }
  for (std::uint32_t number = 0; number < kSockets; ++number) FL_TRY(clients.connect(number));
  std::vector<double> took_ms;
  for (std::uint32_t i = 0; i <= kRemovals; ++i) {
    FL_LET(const double took, remove_backend(*agent, clients, i % kServices, i / kServices));
    if (i > 0) took_ms.push_back(took);  // the first may meet the look that an agent begins with
  }
  const std::string what = fmt::format("UDP backend removed to its {} sockets ended", kSocketsOfBackend);
  report.add({.text = what + ": median", .unit = "ms", .us = estimate(took_ms)});
  report.add({.text = what + ": 99 %", .unit = "ms", .us = quantile(took_ms, 0.99), .goal = kGoalMs});
  return {};
}

}  // namespace fairlead::bench
