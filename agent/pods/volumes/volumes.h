// SPDX-License-Identifier: Apache-2.0
// Volumes: a pod's volumes on the node's disk, in kubelet's layout:
//   PODS_DIR/UID/volumes/kubernetes.io~{empty-dir,configmap,secret,downward-api,projected}/NAME
//   PODS_DIR/UID/volume-subpaths/VOLUME/CONTAINER/INDEX
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/loop.h"
#include "agent/base/result.h"
#include "agent/base/worker_pool.h"
#include "agent/pods/volumes/volume_plan.h"

namespace fairlead::pods {

// Owner: the pods domain. Thread: its loop; files and mounts are touched on the pool only, one task of a pod at a time,
// in the order asked. Every answer comes on the loop, none after destruction. Everything may be asked again: what is
// right already is left alone, so a restarted agent adopts what it finds.
class Volumes {
 public:
  template <class T = void>
  using Done = std::move_only_function<void(Result<T>)>;
  using HostPaths = std::map<std::string, std::string>;  // volume name → path on the node

  // `pods_dir` is STATE_DIR/pods, absolute.
  Volumes(Loop& loop, WorkerPool& pool, std::string pods_dir);
  Volumes(const Volumes&) = delete;
  Volumes& operator=(const Volumes&) = delete;

  // Makes the volumes of a pod. `sources` are asked before this returns.
  void setup(const std::string& uid, const k8s::Pod& pod, const VolumeSources& sources, Done<HostPaths> done);
  // Brings volumes of files that are there up to date; true: some changed.
  void refresh(const std::string& uid, const k8s::Pod& pod, const VolumeSources& sources, Done<bool> done);
  // Unmounts and removes all of PODS_DIR/UID. kUnavailable: something is still in use.
  void teardown(const std::string& uid, Done<> done);

  struct SubPath {
    std::string volume;     // its name
    std::string host_path;  // as setup() answered
    std::string sub_path;
    std::string container;  // whose mount it is,
    int index = 0;          // and which
  };
  // Binds a subPath so that no symlink leads it out of its volume; the path to mount instead.
  void bind(const std::string& uid, SubPath sub_path, Done<std::string> done);

  // The uids that have a folder: those of no pod are orphans, for teardown().
  void on_disk(Done<std::vector<std::string>> done);

 private:
  // Runs `work` on the pool once everything asked before for `uid` is done.
  template <class T>
  void enqueue(const std::string& uid, std::move_only_function<Result<T>()> work, Done<T> done);
  void next(const std::string& uid);

  Loop& loop_;
  WorkerPool& pool_;
  std::string pods_dir_;
  std::map<std::string, std::deque<Task>> queues_;  // by uid; the front runs
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace fairlead::pods
