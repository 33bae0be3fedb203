// SPDX-License-Identifier: Apache-2.0
// A container's environment and command line, as Kubernetes expands them.
#pragma once

#include <k8s/pod.pb.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "agent/model/rows.h"
#include "agent/pods/config_use.h"
#include "agent/pods/downward.h"

namespace fairlead::pods {

using Env = std::vector<std::pair<std::string, std::string>>;  // in order, each name once

struct EnvInput {
  const k8s::Pod& pod;
  const ConfigLookup& config;
  const DownwardFacts& facts;
  const Env& services;  // of service_env()
};

// The variables that tell of Services, in kubelet's words and Docker's: of the pod's namespace where it wants links
// (enableServiceLinks), and of default/kubernetes in any case. Those without an address tell nothing. Sorted by name.
Env service_env(const k8s::Pod& pod, const std::vector<std::shared_ptr<const model::Service>>& services);

// Services, then envFrom, then env; a later one of the same name wins. kNotFound: a ConfigMap, Secret or key that is
// not optional is missing (kubelet's CreateContainerConfigError), the text names it. kUnavailable: it is not known yet.
Result<Env> container_env(const EnvInput& input, const k8s::Container& container);

// The container with every subPathExpr as the subPath that it comes to. kInvalid: a variable in one is not set or
// empty, or the path is absolute or has "..".
Result<k8s::Container> expand_sub_paths(const k8s::Container& container, const Env& env);

// "$(NAME)" by its value, "$$" by "$"; an unknown reference stays as it is written.
std::string expand(const std::string& text, const std::map<std::string, std::string>& values);

}  // namespace fairlead::pods
