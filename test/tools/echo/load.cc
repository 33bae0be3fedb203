// SPDX-License-Identifier: Apache-2.0
// fl-echo load: an open-loop load generator on one epoll loop. New connections start at a fixed rate whatever the
// answers do; beside them keep-alive clients send at a fixed rate each. Nothing is tried twice. An error, and an answer
// later than
// --timeout after it was due, is a failed request. Exit status 0 when none failed.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <deque>
#include <memory>

#include "test/tools/echo/load_report.h"
#include "test/tools/echo/net.h"

namespace fairlead::echo {
namespace {

volatile std::sig_atomic_t interrupted = 0;

// One connection and at most one request on it. A one-shot flow lives for its request, a keep-alive client for the run.
struct Flow {
  int fd = -1;
  bool keepalive = false;
  bool connected = false;
  bool busy = false;          // a request is out
  std::uint64_t request = 0;  // number of the current request; tells a stale deadline from a live one
  Time due;                   // of the current request; of the next one while idle
  std::string in;
};

class Load {
 public:
  explicit Load(const Flags& flags)
      : target_(Target::parse(flags.text("url"))),
        limit_(flags.duration("timeout", milliseconds(500))),
        interval_(per_second(flags.number("rate", 1200))),
        keepalive_interval_(per_second(flags.number("keepalive-rate", 20))),
        start_(Clock::now()),
        end_(start_ + flags.duration("duration", milliseconds(30000))),
        until_file_(flags.text("until-file")) {
    if (target_.scheme != "http") usage("load: only http:// URLs");
    raise_file_limit();
    std::signal(SIGTERM, [](int) { interrupted = 1; });
    std::signal(SIGINT, [](int) { interrupted = 1; });
    const long clients = flags.number("keepalive", 20);
    for (long i = 0; i < clients; ++i) {
      auto& flow = add(true);
      flow.due = start_ + keepalive_interval_ * i / clients;
      clients_.push_back(&flow);
    }
  }

  int run() {
    Time next_connection = start_ + interval_, next_report = start_ + std::chrono::seconds(1);
    bool ending = false;
    while (!ending || busy_ > 0) {
      const auto now = Clock::now();
      ending = ending || interrupted || now >= end_;
      if (!ending) {
        for (; next_connection <= now; next_connection += interval_) begin(add(false), next_connection);
        for (auto* client : clients_) {
          if (!client->busy && client->due <= now) begin(*client, client->due);
        }
      }
      if (now >= next_report) {
        report_.progress(std::chrono::duration<double>(now - start_).count());
        next_report += std::chrono::seconds(1);
        ending = ending || (!until_file_.empty() && access(until_file_.c_str(), F_OK) == 0);
      }
      poll();
      expire();
      retired_.clear();
    }
    std::printf("%s\n", report_.json().c_str());
    return report_.clean() ? 0 : 1;
  }

 private:
  // Rate 0: never.
  static Clock::duration per_second(long rate) {
    if (rate == 0) return std::chrono::hours(24);
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(1.0 / static_cast<double>(rate)));
  }

  Flow& add(bool keepalive) {
    auto flow = std::make_unique<Flow>();
    flow->keepalive = keepalive;
    return *(flows_[flow.get()] = std::move(flow));
  }

  void watch(Flow& flow, std::uint32_t events, int how) const {
    epoll_event event{.events = events, .data = {.ptr = &flow}};
    if (epoll_ctl(epoll_, how, flow.fd, &event) != 0) fatal("epoll_ctl");
  }

  void begin(Flow& flow, Time due) {
    flow.busy = true;
    flow.due = due;
    flow.request = ++requests_;
    flow.in.clear();
    ++busy_;
    deadlines_.push_back({std::max(due, Clock::now() - limit_) + limit_, &flow, flow.request});
    if (flow.fd < 0) return open(flow);
    send_request(flow);
  }

  void open(Flow& flow) {
    flow.fd = socket(target_.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (flow.fd < 0) fatal("socket");
    // A finished connection leaves no TIME_WAIT behind: at this rate they would use up the local ports.
    const linger none{.l_onoff = 1, .l_linger = 0};
    setsockopt(flow.fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    const int on = 1;
    setsockopt(flow.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    report_.connection();
    flow.connected = false;
    if (connect(flow.fd, reinterpret_cast<const sockaddr*>(&target_.address), target_.length) != 0 &&
        errno != EINPROGRESS) {
      return fail(flow, std::string("connect: ") + std::strerror(errno));
    }
    watch(flow, EPOLLOUT, EPOLL_CTL_ADD);
  }

  void send_request(Flow& flow) {
    const std::string text = "GET " + target_.path + " HTTP/1.1\r\nHost: " + target_.authority + "\r\n" +
                             (flow.keepalive ? "" : "Connection: close\r\n") + "\r\n";
    if (send(flow.fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
      return fail(flow, std::string("send: ") + std::strerror(errno));
    }
    watch(flow, EPOLLIN, EPOLL_CTL_MOD);
  }

  void poll() {
    epoll_event events[512];
    const int count = epoll_wait(epoll_, events, 512, 1);
    for (int i = 0; i < count; ++i) {
      auto& flow = *static_cast<Flow*>(events[i].data.ptr);
      if (flow.fd < 0) continue;  // ended by an earlier event of this round
      if (!flow.connected) {
        connected(flow);
      } else {
        receive(flow);
      }
    }
  }

  void connected(Flow& flow) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(flow.fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) return fail(flow, std::string("connect: ") + std::strerror(error));
    flow.connected = true;
    send_request(flow);
  }

  void receive(Flow& flow) {
    char data[4096];
    const ssize_t size = recv(flow.fd, data, sizeof data, 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) {
      // A server may end an idle keep-alive connection: no request is lost by that.
      if (!flow.busy) return disconnect(flow);
      return fail(flow, size == 0 ? "closed before the answer" : std::string("recv: ") + std::strerror(errno));
    }
    flow.in.append(data, static_cast<std::size_t>(size));
    if (!flow.busy) return fail_idle(flow);
    const auto head = flow.in.find("\r\n\r\n");
    if (head == std::string::npos) return;
    const auto length_at = flow.in.find("Content-Length: ");
    if (length_at > head) return fail(flow, "answer without Content-Length");
    if (flow.in.size() < head + 4 + std::strtoul(flow.in.c_str() + length_at + 16, nullptr, 10)) return;
    if (!flow.in.starts_with("HTTP/1.1 200 ")) return fail(flow, flow.in.substr(0, flow.in.find('\r')));
    succeed(flow, flow.in.find("Connection: close\r\n") < head);
  }

  void succeed(Flow& flow, bool closing) {
    if (Clock::now() > flow.due + limit_) return fail(flow, "timeout");
    static const std::string key = "\"name\": \"";
    const auto from = flow.in.find(key);
    const std::string backend =
        from == std::string::npos
            ? "?"
            : flow.in.substr(from + key.size(), flow.in.find('"', from + key.size()) - from - key.size());
    report_.answered(backend, std::chrono::duration_cast<microseconds>(Clock::now() - flow.due));
    done(flow);
    if (closing || !flow.keepalive) disconnect(flow);
  }

  void fail(Flow& flow, const std::string& kind) {
    report_.failed((flow.keepalive ? "keep-alive: " : "") + kind);
    done(flow);
    disconnect(flow);
  }

  void fail_idle(Flow& flow) {
    report_.failed("an answer nobody asked for");
    disconnect(flow);
  }

  void done(Flow& flow) {
    flow.busy = false;
    --busy_;
    if (flow.keepalive) flow.due += keepalive_interval_;
  }

  // Closes the connection; a one-shot flow is kept until the end of the round, when no event can name it any more.
  void disconnect(Flow& flow) {
    close(flow.fd);
    flow.fd = -1;
    if (flow.keepalive) return;
    const auto it = flows_.find(&flow);
    retired_.push_back(std::move(it->second));
    flows_.erase(it);
  }

  void expire() {
    const auto now = Clock::now();
    for (; !deadlines_.empty() && deadlines_.front().at <= now; deadlines_.pop_front()) {
      const auto& [at, flow, request] = deadlines_.front();
      // The pointer may be of a flow that is gone, or of a new one in its place: the request's number decides.
      const auto it = flows_.find(flow);
      if (it != flows_.end() && flow->busy && flow->request == request)
        fail(*flow, flow->connected ? "timeout" : "timeout in connect");
    }
  }

  struct Deadline {
    Time at;
    Flow* flow;
    std::uint64_t request;
  };

  const Target target_;
  const milliseconds limit_;
  const Clock::duration interval_, keepalive_interval_;
  const Time start_, end_;
  const std::string until_file_;
  const int epoll_ = epoll_create1(EPOLL_CLOEXEC);
  std::map<Flow*, std::unique_ptr<Flow>> flows_;
  std::vector<std::unique_ptr<Flow>> retired_;
  std::vector<Flow*> clients_;
  std::deque<Deadline> deadlines_;  // in the order of `at`, nearly: a late start moves one by at most a round
  std::uint64_t requests_ = 0;
  long busy_ = 0;
  LoadReport report_;
};

}  // namespace

int load(const Flags& flags) {
  return Load(flags).run();
}

}  // namespace fairlead::echo
