// SPDX-License-Identifier: Apache-2.0
// PodVolumes: what a worker needs of volumes and small files, over Volumes and the file system.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/pods/seams.h"
#include "agent/pods/volumes/volumes.h"

namespace fairlead::pods {

// Owner: Pods. Thread: its loop.
class PodVolumeSetup final : public VolumeSetup {
 public:
  PodVolumeSetup(Loop& loop, WorkerPool& pool, std::string pods_dir, ConfigLookup lookup)
      : volumes_(loop, pool, std::move(pods_dir)), lookup_(std::move(lookup)) {}

  void set_up(const k8s::Pod& pod, std::function<void(Result<>)> done) override;
  void mount_paths(const k8s::Pod& pod, const std::string& container,
                   std::function<void(Result<std::vector<std::string>>)> done) override;
  void tear_down(const std::string& uid, std::function<void(Result<>)> done) override;
  // A ConfigMap or Secret changed: what the pod has mounted of it follows.
  void refresh(const k8s::Pod& pod);

 private:
  Volumes volumes_;
  ConfigLookup lookup_;
  std::map<std::string, Volumes::HostPaths> paths_;  // by uid, as setup answered
};

// Writes in place, so that a file mounted into a running container keeps its inode.
class FilesOnDisk final : public PodFiles {
 public:
  Result<> write(const std::string& path, const std::string& text) override;
  Result<> make_folder(const std::string& path) override;
  Result<> remove_folder(const std::string& path) override;
};

}  // namespace fairlead::pods
