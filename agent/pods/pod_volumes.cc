// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/pod_volumes.h"

#include <fcntl.h>
#include <k8s/pod.pb.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "agent/base/atomic_file.h"
#include "agent/base/log.h"
#include "agent/base/unique_fd.h"
#include "agent/pods/plan.h"

namespace fairlead::pods {
namespace {

constexpr Duration kTokenAgain = std::chrono::seconds(30);

// The paths of one container's mounts, while subPaths are still being bound.
struct Mounts {
  std::vector<std::string> paths;
  std::size_t waiting = 1;  // binds to come, and the loop that asks for them
  Result<> failure;
  std::function<void(Result<std::vector<std::string>>)> done;

  void arrived() {
    if (--waiting != 0) return;
    if (!failure) return done(std::unexpected(failure.error()));
    done(std::move(paths));
  }
};

}  // namespace

PodVolumeSetup::PodVolumeSetup(Loop& loop, const Clock& clock, WorkerPool& pool, std::string pods_dir,
                               ConfigLookup config, std::optional<Tokens::Ask> tokens, const Allocatable& allocatable)
    : loop_(loop),
      clock_(clock),
      volumes_(loop, pool, std::move(pods_dir)),
      tokens_(loop, clock, std::move(tokens)),
      sources_{.config = std::move(config),
               .token = [this](const auto& pod, const auto& projection) { return tokens_.find(pod, projection); },
               .allocatable = allocatable} {}

void PodVolumeSetup::set_up(const k8s::Pod& pod, std::function<void(Result<>)> done) {
  const std::string uid = pod.metadata().uid();
  const auto copy = std::make_shared<const k8s::Pod>(pod);
  pods_[uid].pod = copy;
  tokens_.renew(pod, [this, uid, copy, done = std::move(done)](Result<> renewed) {
    if (!renewed) return done(std::move(renewed));
    volumes_.setup(uid, *copy, sources_, [this, uid, done](Result<Volumes::HostPaths> paths) {
      if (!paths) return done(std::unexpected(std::move(paths).error()));
      PodState& state = pods_[uid];
      state.paths = std::move(*paths);
      state.made = true;
      renew_in_time(uid);
      done({});
    });
  });
}

void PodVolumeSetup::renew_in_time(const std::string& uid) {
  if (const auto due = tokens_.due(uid)) renew_after(uid, *due - clock_.wall());
}

void PodVolumeSetup::renew_after(const std::string& uid, Duration wait) {
  pods_.at(uid).renewal = loop_.after(std::max(wait, Duration::zero()), [this, uid] {
    tokens_.renew(*pods_.at(uid).pod, [this, uid](const Result<>& renewed) {
      if (!pods_.contains(uid)) return;
      if (renewed) {
        write(uid);
        return renew_in_time(uid);
      }
      log::warn("pods", "a token has ended and there is no other", {{"uid", uid}, {"error", renewed.error()}});
      renew_after(uid, kTokenAgain);
    });
  });
}

void PodVolumeSetup::write(const std::string& uid) {
  const auto pod = pods_.at(uid).pod;
  const std::string name = pod->metadata().namespace_() + "/" + pod->metadata().name();
  volumes_.refresh(uid, *pod, sources_, [name](const Result<bool>& changed) {
    if (!changed) log::warn("pods", "volumes were not updated", {{"pod", name}, {"error", changed.error()}});
  });
}

void PodVolumeSetup::mount_paths(const std::string& uid, const k8s::Container& container,
                                 std::function<void(Result<std::vector<std::string>>)> done) {
  auto mounts = std::make_shared<Mounts>();
  mounts->done = std::move(done);
  mounts->paths.resize(static_cast<std::size_t>(container.volumemounts_size()));
  const auto& volumes = pods_[uid].paths;
  for (int i = 0; i < container.volumemounts_size(); ++i) {
    const auto& mount = container.volumemounts(i);
    const auto at = volumes.find(mount.name());
    if (at == volumes.end()) {
      mounts->failure = fail(Code::kNotFound, "volume {} is not set up", mount.name());
      continue;
    }
    std::string& path = mounts->paths[static_cast<std::size_t>(i)];
    path = at->second;
    if (mount.subpath().empty()) continue;
    ++mounts->waiting;
    volumes_.bind(uid, {mount.name(), at->second, mount.subpath(), container.name(), i},
                  [mounts, &path](Result<std::string> bound) {
                    if (bound) {
                      path = std::move(*bound);
                    } else {
                      mounts->failure = std::unexpected(std::move(bound).error());
                    }
                    mounts->arrived();
                  });
  }
  mounts->arrived();
}

void PodVolumeSetup::tear_down(const std::string& uid, std::function<void(Result<>)> done) {
  pods_.erase(uid);
  tokens_.forget(uid);
  volumes_.teardown(uid, [done = std::move(done)](Result<> result) { done(std::move(result)); });
}

void PodVolumeSetup::refresh(const k8s::Pod& pod) {
  const auto at = pods_.find(pod.metadata().uid());
  if (at == pods_.end() || !at->second.made) return;
  at->second.pod = std::make_shared<const k8s::Pod>(pod);
  write(at->first);
}

Result<std::string> FilesOnDisk::read(const std::string& path) {
  return read_file(path);
}

Result<> FilesOnDisk::write(const std::string& path, const std::string& text) {
  FL_TRY(make_folder(std::filesystem::path(path).parent_path()));
  const UniqueFd file(open(path.c_str(), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!file) return fail_errno(errno, "open " + path);
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return fail_errno(errno, "write " + path);
  }
  // Its container may run as any user: a termination log is for it to write.
  if (fchmod(file.get(), text.empty() ? 0666 : 0644) != 0) return fail_errno(errno, "chmod " + path);
  return {};
}

Result<> FilesOnDisk::make_folder(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return fail_errno(error.value(), "make folder " + path);
  return {};
}

Result<> FilesOnDisk::remove_folder(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) return fail_errno(error.value(), "remove folder " + path);
  return {};
}

}  // namespace fairlead::pods
