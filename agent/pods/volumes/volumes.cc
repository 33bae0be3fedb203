// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/volumes/volumes.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "agent/base/unique_fd.h"
#include "agent/pods/volumes/files.h"
#include "agent/pods/volumes/mounts.h"
#include "agent/pods/volumes/sub_path.h"

namespace fairlead::pods {

namespace {

std::string_view plugin_name(FilesKind kind) {
  switch (kind) {
    case FilesKind::kConfigMap:
      return "configmap";
    case FilesKind::kSecret:
      return "secret";
    case FilesKind::kDownwardApi:
      return "downward-api";
    case FilesKind::kProjected:
      return "projected";
  }
  return "unknown";
}

std::string folder_of(const std::string& pod_dir, const VolumePlan& volume) {
  const auto* files = std::get_if<FilesPlan>(&volume.source);
  const std::string_view plugin = files == nullptr ? "empty-dir" : plugin_name(files->kind);
  return fmt::format("{}/volumes/kubernetes.io~{}/{}", pod_dir, plugin, volume.name);
}

// Makes the volume's own folder, world-writable as kubelet does unless told otherwise; the pod's above it is closed.
Result<> make_volume_folder(const std::string& folder, mode_t mode, std::optional<gid_t> gid, bool memory,
                            std::optional<std::int64_t> size, unsigned long flags) {
  FL_TRY(make_folders(folder, 0750));
  if (memory) FL_TRY(mount_tmpfs(folder, size, flags));
  if (gid && chown(folder.c_str(), static_cast<uid_t>(-1), *gid) != 0) return fail_errno(errno, "chown " + folder);
  if (gid) mode |= 02770;
  if (chmod(folder.c_str(), mode) != 0) return fail_errno(errno, "chmod " + folder);
  return {};
}

Result<std::string> make(const std::string& folder, const EmptyDirPlan& plan, std::optional<gid_t> gid) {
  FL_TRY(make_volume_folder(folder, plan.mode, gid, plan.memory, plan.size, 0));
  return folder;
}

Result<std::string> make(const std::string& folder, const FilesPlan& plan, std::optional<gid_t> gid) {
  FL_TRY(make_volume_folder(folder, 0777, gid, plan.in_memory(), {}, MS_NOSUID | MS_NODEV));
  FL_TRY(write_payload(folder, plan.payload, gid));
  return folder;
}

Result<std::string> make(const std::string&, const HostPathPlan& plan, std::optional<gid_t>) {
  if (plan.type.empty()) return plan.path;
  struct stat info{};
  if (stat(plan.path.c_str(), &info) != 0) {
    if (errno != ENOENT) return fail_errno(errno, "stat " + plan.path);
    if (plan.type == "DirectoryOrCreate") {
      FL_TRY(make_folders(plan.path, 0755));
    } else if (plan.type == "FileOrCreate") {
      const UniqueFd file(open(plan.path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
      if (!file) return fail_errno(errno, "create " + plan.path);
    } else {
      return fail(Code::kNotFound, "hostPath type check failed: {} does not exist", plan.path);
    }
    return plan.path;
  }
  const auto require = [&](bool holds, std::string_view what) -> Result<std::string> {
    if (holds) return plan.path;
    return fail(Code::kInvalid, "hostPath type check failed: {} is not a {}", plan.path, what);
  };
  if (plan.type.starts_with("Directory")) return require(S_ISDIR(info.st_mode), "directory");
  if (plan.type.starts_with("File")) return require(S_ISREG(info.st_mode), "file");
  if (plan.type == "Socket") return require(S_ISSOCK(info.st_mode), "socket");
  if (plan.type == "CharDevice") return require(S_ISCHR(info.st_mode), "character device");
  return require(S_ISBLK(info.st_mode), "block device");
}

Result<Volumes::HostPaths> make_all(const std::string& pod_dir, const PodVolumes& plan) {
  FL_TRY(make_folders(pod_dir, 0750));
  Volumes::HostPaths paths;
  for (const auto& volume : plan.volumes) {
    auto path = std::visit([&](const auto& source) { return make(folder_of(pod_dir, volume), source, plan.fs_group); },
                           volume.source);
    if (!path) return fail_with(std::move(path).error(), fmt::format("volume '{}'", volume.name));
    paths[volume.name] = std::move(*path);
  }
  return paths;
}

Result<bool> refresh_all(const std::string& pod_dir, const PodVolumes& plan) {
  bool changed = false;
  for (const auto& volume : plan.volumes) {
    const auto* files = std::get_if<FilesPlan>(&volume.source);
    const std::string folder = folder_of(pod_dir, volume);
    if (files == nullptr || !std::filesystem::exists(folder)) continue;
    auto wrote = write_payload(folder, files->payload, plan.fs_group);
    if (!wrote) return fail_with(std::move(wrote).error(), fmt::format("volume '{}'", volume.name));
    changed |= *wrote;
  }
  return changed;
}

Result<> remove_pod(const std::string& pods_dir, const std::string& uid) {
  const UniqueFd dir(open(pods_dir.c_str(), O_DIRECTORY | O_CLOEXEC));
  if (!dir) {
    if (errno == ENOENT) return {};
    return fail_errno(errno, "open " + pods_dir);
  }
  // mountinfo speaks of real paths.
  std::error_code error;
  const auto real = std::filesystem::canonical(pods_dir, error);
  if (error) return fail_errno(error.value(), "resolve " + pods_dir);
  FL_TRY(unmount_under(real.string() + "/" + uid));
  return remove_tree(dir.get(), pods_dir, uid);
}

Result<std::vector<std::string>> list_pods(const std::string& pods_dir) {
  const UniqueFd dir(open(pods_dir.c_str(), O_DIRECTORY | O_CLOEXEC));
  if (dir) return list_names(dir.get(), pods_dir);
  if (errno == ENOENT) return std::vector<std::string>();
  return fail_errno(errno, "open " + pods_dir);
}

Result<> check_uid(const std::string& uid) {
  if (is_plain_name(uid)) return {};
  return fail(Code::kInvalid, "pod uid '{}': no name for a folder", uid);
}

}  // namespace

Volumes::Volumes(Loop& loop, WorkerPool& pool, std::string pods_dir)
    : loop_(loop), pool_(pool), pods_dir_(std::move(pods_dir)) {}

template <class T>
void Volumes::enqueue(const std::string& uid, std::move_only_function<Result<T>()> work, Done<T> done) {
  auto& queue = queues_[uid];
  queue.push_back([this, uid, work = std::move(work), done = std::move(done)]() mutable {
    pool_.submit<T>(loop_, std::move(work),
                    [this, alive = std::weak_ptr(alive_), uid, done = std::move(done)](Result<T> result) mutable {
                      if (alive.expired()) return;
                      next(uid);
                      done(std::move(result));  // last: it may destroy this
                    });
  });
  if (queue.size() == 1) queue.front()();
}

void Volumes::next(const std::string& uid) {
  const auto queue = queues_.find(uid);
  queue->second.pop_front();
  if (queue->second.empty()) {
    queues_.erase(queue);
  } else {
    queue->second.front()();
  }
}

void Volumes::setup(const std::string& uid, const k8s::Pod& pod, const VolumeSources& sources, Done<HostPaths> done) {
  auto plan = plan_volumes(pod, sources);
  enqueue<HostPaths>(
      uid,
      [dir = pods_dir_ + "/" + uid, uid, plan = std::move(plan)]() -> Result<HostPaths> {
        FL_TRY(check_uid(uid));
        if (!plan) return std::unexpected(plan.error());
        return make_all(dir, *plan);
      },
      std::move(done));
}

void Volumes::refresh(const std::string& uid, const k8s::Pod& pod, const VolumeSources& sources, Done<bool> done) {
  auto plan = plan_volumes(pod, sources);
  enqueue<bool>(
      uid,
      [dir = pods_dir_ + "/" + uid, uid, plan = std::move(plan)]() -> Result<bool> {
        FL_TRY(check_uid(uid));
        if (!plan) return std::unexpected(plan.error());
        return refresh_all(dir, *plan);
      },
      std::move(done));
}

void Volumes::teardown(const std::string& uid, Done<> done) {
  enqueue<void>(
      uid,
      [dir = pods_dir_, uid]() -> Result<> {
        FL_TRY(check_uid(uid));
        return remove_pod(dir, uid);
      },
      std::move(done));
}

void Volumes::bind(const std::string& uid, SubPath sub_path, Done<std::string> done) {
  enqueue<std::string>(
      uid,
      [dir = pods_dir_, uid, of = std::move(sub_path)]() -> Result<std::string> {
        FL_TRY(check_uid(uid));
        if (!is_plain_name(of.volume) || !is_plain_name(of.container)) {
          return fail(Code::kInvalid, "subPath of volume '{}', container '{}': no names for folders", of.volume,
                      of.container);
        }
        std::string target = fmt::format("{}/{}/volume-subpaths/{}/{}/{}", dir, uid, of.volume, of.container, of.index);
        FL_TRY(bind_sub_path(of.host_path, of.sub_path, target));
        return target;
      },
      std::move(done));
}

void Volumes::on_disk(Done<std::vector<std::string>> done) {
  pool_.submit<std::vector<std::string>>(
      loop_, [dir = pods_dir_] { return list_pods(dir); },
      [alive = std::weak_ptr(alive_), done = std::move(done)](Result<std::vector<std::string>> result) mutable {
        if (!alive.expired()) done(std::move(result));
      });
}

}  // namespace fairlead::pods
