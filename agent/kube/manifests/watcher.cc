// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/manifests/watcher.h"

#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace fairlead::kube {
namespace {

constexpr std::uint32_t kEvents = IN_CREATE | IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE |
                                  IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;

// A name that came to be with its content: nobody will close it after writing.
bool comes_whole(const std::string& path) {
  struct stat info{};
  return lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_nlink > 1;
}

}  // namespace

Watcher::Watcher(Loop& loop, std::function<void()> changed)
    : fd_(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)), changed_(std::move(changed)) {
  if (fd_ < 0) {
    trouble_ = fail_errno(errno, "inotify_init1").error();
  } else {
    readable_ = loop.watch(fd_, Loop::Ready::kRead, [this] { read_events(); });
  }
}

Watcher::~Watcher() {
  readable_.cancel();
  if (fd_ >= 0) close(fd_);
}

Result<bool> Watcher::follow(const std::vector<std::string>& directories) {
  if (fd_ < 0) return std::unexpected(trouble_);
  Result<bool> outcome = false;
  std::map<int, std::string> paths;
  for (const std::string& path : directories) {
    const int watch = inotify_add_watch(fd_, path.c_str(), kEvents);  // the same number for the same directory
    if (watch >= 0) {
      if (outcome && !paths_.contains(watch)) outcome = true;
      paths.insert_or_assign(watch, path);
    } else if (outcome && errno != ENOENT) {
      outcome = fail_errno(errno, "inotify_add_watch " + path);
    }
  }
  for (const auto& [watch, path] : paths_) {
    if (!paths.contains(watch)) inotify_rm_watch(fd_, watch);  // fails where the directory is gone: so is the watch
  }
  paths_ = std::move(paths);
  return outcome;
}

void Watcher::read_events() {
  bool matters = false;
  alignas(inotify_event) char buffer[16384];
  for (;;) {
    const ssize_t length = read(fd_, buffer, sizeof(buffer));
    if (length <= 0) break;
    for (ssize_t offset = 0; offset < length;) {
      inotify_event event{};
      std::memcpy(&event, buffer + offset, sizeof(event));
      const char* name = buffer + offset + sizeof(event);
      offset += static_cast<ssize_t>(sizeof(event) + event.len);
      if ((event.mask & IN_IGNORED) != 0) continue;
      const auto directory = paths_.find(event.wd);
      if (event.len == 0 || directory == paths_.end()) {  // the directory itself, or events were lost
        matters = true;
        continue;
      }
      const std::string path = directory->second + "/" + name;
      const bool file = (event.mask & IN_ISDIR) == 0;
      if (file && ((event.mask & IN_MODIFY) != 0 || ((event.mask & IN_CREATE) != 0 && !comes_whole(path)))) {
        being_written_.insert(path);  // IN_CLOSE_WRITE follows
        continue;
      }
      if ((event.mask & IN_ATTRIB) == 0) being_written_.erase(path);
      matters = true;
    }
  }
  if (matters) changed_();
}

}  // namespace fairlead::kube
