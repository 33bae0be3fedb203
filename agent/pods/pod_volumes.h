// SPDX-License-Identifier: Apache-2.0
// PodVolumes: what a worker needs of volumes and small files, over Volumes and the file system.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/pods/seams.h"
#include "agent/pods/tokens.h"
#include "agent/pods/volumes/volumes.h"

namespace fairlead::pods {

// Owner: Pods. Thread: its loop. Tokens are renewed, and written, as they come due.
class PodVolumeSetup final : public VolumeSetup {
 public:
  PodVolumeSetup(Loop& loop, const Clock& clock, WorkerPool& pool, std::string pods_dir, ConfigLookup config,
                 std::optional<Tokens::Ask> tokens, const Allocatable& allocatable);

  void set_up(const k8s::Pod& pod, std::function<void(Result<>)> done) override;
  void mount_paths(const std::string& uid, const k8s::Container& container,
                   std::function<void(Result<std::vector<std::string>>)> done) override;
  void refresh(const k8s::Pod& pod) override;
  void tear_down(const std::string& uid, std::function<void(Result<>)> done) override;
  // The uids of pods that have a folder here.
  void on_disk(std::function<void(Result<std::vector<std::string>>)> done) { volumes_.on_disk(std::move(done)); }

 private:
  struct PodState {
    std::shared_ptr<const k8s::Pod> pod;
    Volumes::HostPaths paths;  // as setup answered
    bool made = false;
    Subscription renewal;
  };
  void write(const std::string& uid);
  void renew_in_time(const std::string& uid);
  void renew_after(const std::string& uid, Duration wait);

  Loop& loop_;
  const Clock& clock_;
  Volumes volumes_;
  Tokens tokens_;
  VolumeSources sources_;
  std::map<std::string, PodState> pods_;  // by uid
};

// Writes in place, so that a file mounted into a running container keeps its inode.
class FilesOnDisk final : public PodFiles {
 public:
  Result<std::string> read(const std::string& path) override;
  Result<> write(const std::string& path, const std::string& text) override;
  Result<> make_folder(const std::string& path) override;
  Result<> remove_folder(const std::string& path) override;
};

}  // namespace fairlead::pods
