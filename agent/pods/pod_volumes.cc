// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/pod_volumes.h"

#include <fcntl.h>
#include <k8s/pod.pb.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "agent/base/log.h"
#include "agent/base/unique_fd.h"
#include "agent/pods/plan.h"

namespace fairlead::pods {
namespace {

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

void PodVolumeSetup::set_up(const k8s::Pod& pod, std::function<void(Result<>)> done) {
  const std::string uid = pod.metadata().uid();
  volumes_.setup(uid, pod, lookup_, [this, uid, done = std::move(done)](Result<Volumes::HostPaths> paths) {
    if (!paths) return done(std::unexpected(std::move(paths).error()));
    paths_[uid] = std::move(*paths);
    done({});
  });
}

void PodVolumeSetup::mount_paths(const k8s::Pod& pod, const std::string& name,
                                 std::function<void(Result<std::vector<std::string>>)> done) {
  const std::string& uid = pod.metadata().uid();
  const k8s::Container* container = find_container(pod.spec(), name);
  if (container == nullptr) return done(fail(Code::kNotFound, "container {} is not in the pod", name));
  auto mounts = std::make_shared<Mounts>();
  mounts->done = std::move(done);
  mounts->paths.resize(static_cast<std::size_t>(container->volumemounts_size()));
  const auto& volumes = paths_[uid];
  for (int i = 0; i < container->volumemounts_size(); ++i) {
    const auto& mount = container->volumemounts(i);
    const auto at = volumes.find(mount.name());
    if (at == volumes.end()) {
      mounts->failure = fail(Code::kNotFound, "volume {} is not set up", mount.name());
      continue;
    }
    std::string& path = mounts->paths[static_cast<std::size_t>(i)];
    path = at->second;
    if (mount.subpath().empty()) continue;
    ++mounts->waiting;
    volumes_.bind(uid, {mount.name(), at->second, mount.subpath(), name, i},
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
  paths_.erase(uid);
  volumes_.teardown(uid, [done = std::move(done)](Result<> result) { done(std::move(result)); });
}

void PodVolumeSetup::refresh(const k8s::Pod& pod) {
  const std::string name = pod.metadata().namespace_() + "/" + pod.metadata().name();
  volumes_.refresh(pod.metadata().uid(), pod, lookup_, [name](const Result<bool>& changed) {
    if (!changed) log::warn("pods", "volumes were not updated", {{"pod", name}, {"error", changed.error()}});
  });
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
