// SPDX-License-Identifier: Apache-2.0
#include "test/kit/netns.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "agent/base/unique_fd.h"

namespace fairlead::testkit {
namespace {

std::string& folder_path() {
  static std::string path;
  return path;
}

Result<> set_loopback_up() {
  const UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP;
  if (ioctl(fd.get(), SIOCSIFFLAGS, &request) != 0) return fail_errno(errno, "set lo up");
  return {};
}

}  // namespace

Result<> enter_node_namespace(const std::string& name) {
  if (unshare(CLONE_NEWNET | CLONE_NEWNS) != 0) return fail_errno(errno, "unshare");
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return fail_errno(errno, "make mounts private");
  // /sys shows the devices of the namespace that mounted it; /proc/sys follows the reader.
  std::string path = "/tmp/fl-" + name + "-XXXXXX";
  if (mkdtemp(path.data()) == nullptr) return fail_errno(errno, "mkdtemp");
  if (mount("tmpfs", path.c_str(), "tmpfs", 0, nullptr) != 0) return fail_errno(errno, "mount tmpfs");
  folder_path() = path;
  std::atexit([] {
    umount2(bpffs().c_str(), MNT_DETACH);
    umount2(folder().c_str(), MNT_DETACH);
    rmdir(folder().c_str());
  });
  if (mkdir(bpffs().c_str(), 0700) != 0) return fail_errno(errno, "mkdir");
  if (mount("bpf", bpffs().c_str(), "bpf", 0, nullptr) != 0) return fail_errno(errno, "mount bpffs");
  return set_loopback_up();
}

std::string folder() {
  return folder_path();
}

std::string bpffs() {
  return folder_path() + "/bpf";
}

Result<PodNetns> PodNetns::make(const std::string& name) {
  const std::string path = folder() + "/" + name + ".netns";
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file) return fail_errno(errno, "create " + path);
  int error = 0;
  std::jthread([&] {
    if (unshare(CLONE_NEWNET) != 0 || mount("/proc/thread-self/ns/net", path.c_str(), nullptr, MS_BIND, nullptr) != 0) {
      error = errno;
    }
  }).join();
  if (error != 0) return fail_errno(error, "make network namespace " + path);
  return PodNetns(path);
}

PodNetns::~PodNetns() {
  if (path_.empty()) return;
  umount2(path_.c_str(), MNT_DETACH);
  unlink(path_.c_str());
}

void PodNetns::run(const std::function<void()>& task) const {
  std::jthread([&] {
    const UniqueFd fd(open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    if (setns(fd.get(), CLONE_NEWNET) != 0) std::abort();  // the path is ours
    task();
  }).join();
}

}  // namespace fairlead::testkit
