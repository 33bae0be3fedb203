// SPDX-License-Identifier: Apache-2.0
// Images: a container's image on the node, pulled where its policy asks for that.
#pragma once

#include <cri/v1.pb.h>
#include <k8s/pod.pb.h>

#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/loop.h"
#include "agent/cri/runtime.h"
#include "agent/pods/config_use.h"
#include "agent/pods/events.h"
#include "agent/pods/limit.h"

namespace fairlead::pods {

namespace api = ::runtime::v1;

struct ImageFailure {
  std::string reason;  // kubelet's word: "ErrImagePull", "ErrImageNeverPull", …
  Error error;
};

// Owner: Pods. Thread: its loop. At most so many pulls at once; the rest wait in order.
class Images {
 public:
  // An image's id, and whom it runs as.
  using Done = std::function<void(std::expected<api::Image, ImageFailure>)>;

  Images(Loop& loop, const Clock& clock, cri::Runtime& runtime, ConfigLookup config, const Events& events)
      : loop_(loop), clock_(clock), runtime_(runtime), config_(std::move(config)), events_(events) {}

  // `sandbox` is the pod's configuration: some runtimes keep images by it. Pull secrets that are missing are told as
  // an event and done without.
  void find(std::shared_ptr<const k8s::Pod> pod, const k8s::Container& container, const api::PodSandboxConfig& sandbox,
            Done done);

 private:
  struct Search;
  void status(const std::string& image, std::function<void(Result<api::ImageStatusResponse>)> done);
  void pull(const std::shared_ptr<Search>& search);
  void try_login(const std::shared_ptr<Search>& search, std::size_t login);
  void pulled(const std::shared_ptr<Search>& search, const std::string& ref);
  std::vector<api::AuthConfig> logins(const k8s::Pod& pod, const std::string& image) const;

  Loop& loop_;
  const Clock& clock_;
  cri::Runtime& runtime_;
  ConfigLookup config_;
  const Events& events_;
  Limit pulls_{5};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace fairlead::pods
