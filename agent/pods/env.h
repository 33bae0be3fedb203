// SPDX-License-Identifier: Apache-2.0
// A container's environment and command line, as Kubernetes expands them.
#pragma once

#include <k8s/pod.pb.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/result.h"
#include "agent/model/rows.h"

namespace fairlead::pods {

// ConfigMaps and Secrets by "namespace/name"; nullptr: there is none.
using FindConfig = std::function<std::shared_ptr<const model::ConfigData>(const std::string& key)>;

struct EnvInput {
  const k8s::Pod& pod;
  FindConfig config_map;
  FindConfig secret;
  std::vector<IpAddress> pod_ips;
  std::vector<IpAddress> node_ips;
  std::string node_name;
};

using Env = std::vector<std::pair<std::string, std::string>>;  // in order, each name once

// envFrom, then env; a later one of the same name wins. kNotFound: a ConfigMap, Secret or key that is not optional is
// missing (kubelet's CreateContainerConfigError), the text names it. Pure but for its finders.
Result<Env> container_env(const EnvInput& input, const k8s::Container& container);

// "$(NAME)" by its value, "$$" by "$"; an unknown reference stays as it is written.
std::string expand(const std::string& text, const std::map<std::string, std::string>& values);

// The value of a downward API field such as "metadata.labels['app']".
Result<std::string> field_value(const EnvInput& input, const std::string& path);

}  // namespace fairlead::pods
