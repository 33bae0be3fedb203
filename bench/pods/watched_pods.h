// SPDX-License-Identifier: Apache-2.0
// WatchedPods: pods of one node, made, bound and deleted at the API server, and when a watch of them saw what.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "bench/lib/api_client.h"

namespace fairlead::bench {

// Owner and thread: the benchmark's main, which waits.
class WatchedPods {
 public:
  // Pods run `image` with `args` on `node`, and are probed by TCP at 8080 each second.
  static Result<std::unique_ptr<WatchedPods>> open(const std::filesystem::path& kubeconfig, const std::string& node,
                                                   const std::string& image, const std::vector<std::string>& args);

  // Milliseconds from the first of `count` pods seen bound until all are seen Running. They stay.
  Result<double> run(int count);
  struct Identity {
    std::string name, uid;
  };
  // `count` pods of this node that ended before it saw them: what else is started under their names and uids is theirs
  // to the node's network, which lets nobody in that the API server does not know.
  Result<std::vector<Identity>> ended(int count);
  // Waits until those that run are Ready, too.
  Result<> wait_ready();
  // Deletes all of them and waits until they are gone.
  Result<> remove();

 private:
  struct Seen {
    Moment bound, running;
    bool ready = false;
  };

  WatchedPods() = default;
  void note(const std::string& line, Moment at);
  using Names = std::vector<std::string>;
  Names new_names(int count);
  Result<> create(const Names& names);
  Result<> bind(const Names& names);
  Result<> wait(const std::string& what, const std::function<bool(const Seen&)>& until);

  std::string node_, image_;
  std::vector<std::string> args_;
  std::map<std::string, Seen> seen_;  // belongs to the watch's thread
  Names running_, ended_;
  unsigned rounds_ = 0;
  std::unique_ptr<ApiClient> api_;  // last: its thread ends first
};

}  // namespace fairlead::bench
