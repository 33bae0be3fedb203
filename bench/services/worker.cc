// SPDX-License-Identifier: Apache-2.0
#include "bench/services/worker.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <functional>
#include <utility>

#include "bench/lib/large_cluster.h"

namespace fairlead::bench {
namespace {

using Message = std::array<char, 64>;
using Clock = std::chrono::steady_clock;

constexpr int kClientCpu = 0;
constexpr int kServerCpu = 1;
constexpr std::uint32_t kStride = 7919;  // a prime: every Service has its turn

void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof(set), &set);  // best effort: a machine may have one
}

bool enter(const std::string& netns, const std::string& cgroup) {
  if (!cgroup.empty()) {
    const UniqueFd file(open((cgroup + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
    if (write(file.get(), "0", 1) != 1) return false;
  }
  const UniqueFd fd(open(netns.c_str(), O_RDONLY | O_CLOEXEC));
  return setns(fd.get(), CLONE_NEWNET) == 0;
}

UniqueFd connect_to(const IpAddress& address, std::uint16_t port, std::chrono::milliseconds patience) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int one = 1;
  const linger no_time_wait{.l_onoff = 1, .l_linger = 0};
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &no_time_wait, sizeof(no_time_wait));
  const timeval limit{.tv_sec = patience.count() / 1000, .tv_usec = patience.count() % 1000 * 1000};
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  const sockaddr_in to{.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {address.v4_be()}, .sin_zero = {}};
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0) return {};
  return fd;
}

bool round_trip(const UniqueFd& fd) {
  Message message{};
  return fd && send(fd.get(), message.data(), message.size(), MSG_NOSIGNAL) == std::ssize(message) &&
         recv(fd.get(), message.data(), message.size(), MSG_WAITALL) == std::ssize(message);
}

// Microseconds a round trip; the negative errno of the first that failed.
double carry_out(const Job& job) {
  const LargeCluster cluster{.services = job.services, .endpoints = 1};
  const auto connect_service = [&](std::uint32_t i) {
    const std::uint32_t service = static_cast<std::uint32_t>(std::uint64_t{i} * kStride % job.services);
    return job.by_cluster_ip ? connect_to(LargeCluster::cluster_ip(service), LargeCluster::kPort, job.patience)
                             : connect_to(cluster.endpoint(service, 0), LargeCluster::kTargetPort, job.patience);
  };
  const UniqueFd connection = job.open ? connect_service(job.services - 1) : UniqueFd();
  if (job.open && !round_trip(connection)) return -errno;
  const auto begin = Clock::now();
  for (std::uint32_t i = 0; i < job.count; ++i) {
    const UniqueFd fresh = job.open ? UniqueFd() : connect_service(i);
    if (!round_trip(job.open ? connection : fresh)) return -std::max(errno, 1);
  }
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count() / job.count;
}

void run_client(const UniqueFd& control) {
  pin(kClientCpu);
  for (Job job; recv(control.get(), &job, sizeof(job), 0) == sizeof(job);) {
    const double took = carry_out(job);
    (void)send(control.get(), &took, sizeof(took), MSG_NOSIGNAL);
  }
}

void run_server(const UniqueFd& control) {
  pin(kServerCpu);
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_in any{
      .sin_family = AF_INET, .sin_port = htons(LargeCluster::kTargetPort), .sin_addr = {}, .sin_zero = {}};
  const UniqueFd ready(epoll_create1(EPOLL_CLOEXEC));
  const auto watch = [&](int fd) {
    epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
    epoll_ctl(ready.get(), EPOLL_CTL_ADD, fd, &event);
  };
  if (bind(listener.get(), reinterpret_cast<const sockaddr*>(&any), sizeof(any)) != 0 ||
      listen(listener.get(), SOMAXCONN) != 0) {
    return;
  }
  watch(listener.get());
  watch(control.get());
  const double up = 0;
  (void)send(control.get(), &up, sizeof(up), MSG_NOSIGNAL);
  for (epoll_event event{}; epoll_wait(ready.get(), &event, 1, -1) >= 0 || errno == EINTR;) {
    const int fd = event.data.fd;
    if (fd == control.get()) return;
    if (fd == listener.get()) {
      const int client = accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
      const int one = 1;
      setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
      if (client >= 0) watch(client);
      continue;
    }
    Message message;
    const ssize_t size = recv(fd, message.data(), message.size(), 0);
    if (size > 0) (void)send(fd, message.data(), static_cast<std::size_t>(size), MSG_NOSIGNAL);
    if (size == 0 || (size < 0 && errno != EAGAIN)) close(fd);
  }
}

Result<std::pair<pid_t, UniqueFd>> start(const std::string& netns, const std::string& cgroup,
                                         const std::function<void(const UniqueFd&)>& body) {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) return fail_errno(errno, "socketpair");
  UniqueFd ours(ends[0]), theirs(ends[1]);
  const pid_t pid = fork();
  if (pid < 0) return fail_errno(errno, "fork");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    ours.reset();
    if (enter(netns, cgroup)) body(theirs);
    _exit(0);
  }
  return std::pair(pid, std::move(ours));
}

}  // namespace

Result<std::unique_ptr<Worker>> Worker::client(const std::string& netns, const std::string& cgroup) {
  FL_LET(auto process, start(netns, cgroup, run_client));
  return std::unique_ptr<Worker>(new Worker(process.first, std::move(process.second)));
}

Result<std::unique_ptr<Worker>> Worker::server(const std::string& netns) {
  FL_LET(auto process, start(netns, "", run_server));
  std::unique_ptr<Worker> worker(new Worker(process.first, std::move(process.second)));
  double up = 0;
  if (recv(worker->control_.get(), &up, sizeof(up), 0) != sizeof(up))
    return fail(Code::kSystem, "no server in {}", netns);
  return worker;
}

Worker::~Worker() {
  control_.reset();
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

Result<double> Worker::run(const Job& job) const {
  double took = 0;
  if (send(control_.get(), &job, sizeof(job), MSG_NOSIGNAL) != sizeof(job) ||
      recv(control_.get(), &took, sizeof(took), 0) != sizeof(took)) {
    return fail(Code::kSystem, "a client ended");
  }
  if (took < 0) {
    return fail_errno(static_cast<int>(-took),
                      fmt::format("a connection to {} of {} Services",
                                  job.by_cluster_ip ? "a ClusterIP" : "the endpoint", job.services));
  }
  return took;
}

}  // namespace fairlead::bench
