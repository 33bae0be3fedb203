// SPDX-License-Identifier: Apache-2.0
// DeadSockets: which connected sockets of this node have a backend that is gone.
#pragma once

#include <memory>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/datapath/object.h"
#include "agent/datapath/sock_programs.h"
#include "bpf/abi/dead_socket.h"

namespace fairlead::datapath {

// The socket hooks keep a connected socket's translation in the socket itself (map sk_peer), so there is no list of
// sockets that could fill up, fall behind or outlive them: a BPF iterator walks those memories, of all network
// namespaces in one go, and compares each with the backend that it names. It works on 6.1 as on later kernels.
// Owner: main; thread: one, any. Cost of a list: 0.1 µs a socket that is connected through a service.
class DeadSockets {
 public:
  static Result<std::unique_ptr<DeadSockets>> open(const SockPrograms& programs);
  ~DeadSockets();

  Result<std::vector<dead_socket>> list() const;
  Result<std::vector<ProgramFacts>> facts() const;

 private:
  struct Iterator;
  explicit DeadSockets(std::unique_ptr<Iterator> iterator);
  std::unique_ptr<Iterator> iterator_;
};

}  // namespace fairlead::datapath
