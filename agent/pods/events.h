// SPDX-License-Identifier: Apache-2.0
// Events: what happens to pods, told in kubelet's words for `kubectl describe`.
#pragma once

#include <k8s/pod.pb.h>

#include <string>
#include <utility>

#include "agent/base/channel.h"
#include "agent/base/clock.h"
#include "agent/model/rows.h"
#include "agent/pods/pod_spec.h"

namespace fairlead::pods {

// Owner: Pods. Thread: its loop.
class Events {
 public:
  Events(const Clock& clock, Sender<model::EventNote> notes) : clock_(clock), notes_(std::move(notes)) {}

  void normal(const k8s::Pod& pod, std::string reason, std::string message, const std::string& container = {}) const {
    tell(pod, false, std::move(reason), std::move(message), container);
  }
  void warning(const k8s::Pod& pod, std::string reason, std::string message, const std::string& container = {}) const {
    tell(pod, true, std::move(reason), std::move(message), container);
  }
  // Nothing of the pod is left, and nothing more is told of it.
  void end(const model::ObjectId& pod) const { notes_.send({.involved = pod, .reason = {}, .at = clock_.wall()}); }

 private:
  void tell(const k8s::Pod& pod, bool warning, std::string reason, std::string message,
            const std::string& container) const {
    const auto& meta = pod.metadata();
    notes_.send({.involved = {meta.namespace_(), meta.name(), meta.uid()},
                 .field_path = container.empty() ? "" : container_path(pod.spec(), container),
                 .warning = warning,
                 .reason = std::move(reason),
                 .message = std::move(message),
                 .at = clock_.wall()});
  }

  const Clock& clock_;
  Sender<model::EventNote> notes_;
};

}  // namespace fairlead::pods
