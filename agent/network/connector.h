// SPDX-License-Identifier: Apache-2.0
// Connector: the second half of an ADD. What a pod's pair needs from the kernel before it may carry packets is done
// here, on a thread of its own, while the network's loop plans the next ADD and makes its pair.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "agent/base/loop.h"
#include "agent/base/loop_thread.h"
#include "agent/base/result.h"
#include "agent/datapath/pod_programs.h"
#include "agent/netlink/netns.h"
#include "agent/netlink/socket.h"
#include "agent/network/attachment.h"

namespace fairlead::network {

// Owner: the network domain. Its thread is in the network namespace of whoever makes it. Pairs are connected one after
// another, in the order in which they were handed over.
class Connector {
 public:
  // A pair that is made, whose pod the maps know.
  struct Job {
    Attachment attachment;
    netlink::Netns pod;
    netlink::VethEnds ends{};
    std::vector<IpAddress> node_ips = {};  // sources of what the host sends, at most one of a family
  };
  using Done = std::move_only_function<void(Result<>)>;

  static Result<std::unique_ptr<Connector>> start(datapath::PodPrograms& programs);

  // The guard before either end is up; the host side up last, which says that all is done. `done` is called on `home`;
  // `job` is the connector's until then. On failure the pair is left as far as it is.
  void connect(Job& job, Loop& home, Done done);

 private:
  Connector(datapath::PodPrograms& programs, netlink::Socket host);
  Result<> carry_out(Job& job);

  datapath::PodPrograms& programs_;
  netlink::Socket host_;  // the thread's
  LoopThread thread_{"connector"};
};

}  // namespace fairlead::network
