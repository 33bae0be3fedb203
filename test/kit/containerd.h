// SPDX-License-Identifier: Apache-2.0
// A containerd of one test's own, with the demo images in it. The work is done by scripts/lib/containerd.sh, which the
// demo uses too.
#pragma once

#include <filesystem>
#include <string>

#include "agent/base/result.h"
#include "test/kit/process.h"

namespace fairlead::testkit {

// Owner: the test. Needs root. About 0.5 s to start; the destructor ends every task, the daemon and its shims, and
// undoes its mounts. The folder is the caller's to remove.
class Containerd {
 public:
  struct Options {
    std::filesystem::path folder;      // absolute, of its own, short: socket paths end at 107 bytes
    std::string netns;                 // name under /run/netns to run in; empty: the caller's
    std::filesystem::path bin_folder;  // another containerd, its shim and ctr; empty: the one on PATH
  };
  static Result<Containerd> start(const Options& options);
  Containerd(Containerd&& other) noexcept;
  Containerd& operator=(Containerd&&) = delete;
  ~Containerd();

  std::string endpoint() const { return "unix://" + (folder_ / "containerd.sock").string(); }
  std::filesystem::path cni_bin_dir() const { return folder_ / "cni" / "bin"; }
  std::filesystem::path cni_conf_dir() const { return folder_ / "cni" / "net.d"; }
  // `ctr ARGS` in CRI's namespace.
  CommandResult ctr(const std::string& args) const;

  // As after a crash: the daemon goes, its containers and shims stay. start() on the same folder takes them over.
  void kill_daemon() const;

 private:
  explicit Containerd(std::filesystem::path folder) : folder_(std::move(folder)) {}
  std::filesystem::path folder_;
};

}  // namespace fairlead::testkit
