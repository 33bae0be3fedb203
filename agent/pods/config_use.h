// SPDX-License-Identifier: Apache-2.0
// ConfigMaps and Secrets: which ones a pod uses, how they are found, and who is told that they are wanted.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "agent/base/channel.h"
#include "agent/base/result.h"
#include "agent/model/rows.h"

namespace fairlead::pods {

using model::ConfigKind;

// The object of "namespace/name". nullptr: there is none. kUnavailable: it is not known yet whether there is one.
using ConfigLookup =
    std::function<Result<std::shared_ptr<const model::ConfigData>>(ConfigKind, const std::string& key)>;

// "configmap" or "secret", as kubelet's messages have it.
std::string_view to_string(ConfigKind kind);

using ConfigName = std::pair<ConfigKind, std::string>;  // "namespace/name"

// Everything that the pod's volumes, environment and image pulls name. Pure.
std::set<ConfigName> configs_of(const k8s::Pod& pod);

// What is wanted by any pod here. Owner: Pods; thread: its loop. Tells a want when the first pod uses an object, and
// its end when the last one uses it no longer.
class ConfigUse {
 public:
  explicit ConfigUse(Sender<model::ConfigWant> wants) : wants_(std::move(wants)) {}

  // The pod uses exactly `names` from now on.
  void set(const std::string& uid, std::set<ConfigName> names);

 private:
  Sender<model::ConfigWant> wants_;
  std::map<std::string, std::set<ConfigName>> used_;  // by pod uid
  std::map<ConfigName, unsigned> users_;
};

}  // namespace fairlead::pods
