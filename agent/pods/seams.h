// SPDX-License-Identifier: Apache-2.0
// What a pod's worker needs of the parts that touch files, mounts and sockets: narrow, so that tests bring their own.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/pods/view.h"

namespace k8s {
class Container;
class Pod;
}  // namespace k8s

namespace fairlead::pods {

// Volumes of pods. Thread: the pods loop; blocking work is done elsewhere and each answer comes on the loop, once.
class VolumeSetup {
 public:
  virtual ~VolumeSetup() = default;
  // Makes every volume of the pod, or finds it made, and keeps their files up to date from then on. kNotFound: a
  // ConfigMap or Secret that it needs is missing; kUnavailable: it, or a token, is not to be had now.
  virtual void set_up(const k8s::Pod& pod, std::function<void(Result<>)> done) = 0;
  // The host paths of the container's volumeMounts, in order, subPath resolved without leaving its volume.
  virtual void mount_paths(const std::string& uid, const k8s::Container& container,
                           std::function<void(Result<std::vector<std::string>>)> done) = 0;
  // The pod's object, or a ConfigMap or Secret, changed: what it has mounted of them follows.
  virtual void refresh(const k8s::Pod& pod) = 0;
  // Removes all files of the pod. Done already is success.
  virtual void tear_down(const std::string& uid, std::function<void(Result<>)> done) = 0;
};

// Small files of a pod (hosts, termination log), the folder of its logs, and the node's files that pods take from.
// Thread: as above.
class PodFiles {
 public:
  virtual ~PodFiles() = default;
  virtual Result<std::string> read(const std::string& path) = 0;
  virtual Result<> write(const std::string& path, const std::string& text) = 0;  // with its folders
  virtual Result<> make_folder(const std::string& path) = 0;                     // with those above it
  virtual Result<> remove_folder(const std::string& path) = 0;                   // with all in it; absent is done
};

}  // namespace fairlead::pods
