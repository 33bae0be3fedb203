// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/config_use.h"

#include <k8s/pod.pb.h>

namespace fairlead::pods {

std::string_view to_string(ConfigKind kind) {
  return kind == ConfigKind::kSecret ? "secret" : "configmap";
}

std::set<ConfigName> configs_of(const k8s::Pod& pod) {
  std::set<ConfigName> names;
  const auto add = [&](ConfigKind kind, const std::string& name) {
    if (!name.empty()) names.emplace(kind, pod.metadata().namespace_() + "/" + name);
  };
  const auto add_ref = [&](ConfigKind kind, const auto& holder) { add(kind, holder.localobjectreference().name()); };
  for (const auto& volume : pod.spec().volumes()) {
    const auto& source = volume.volumesource();
    add_ref(ConfigKind::kConfigMap, source.configmap());
    add(ConfigKind::kSecret, source.secret().secretname());
    for (const auto& projection : source.projected().sources()) {
      add_ref(ConfigKind::kConfigMap, projection.configmap());
      add_ref(ConfigKind::kSecret, projection.secret());
    }
  }
  for (const auto* containers : {&pod.spec().initcontainers(), &pod.spec().containers()}) {
    for (const auto& container : *containers) {
      for (const auto& from : container.envfrom()) {
        add_ref(ConfigKind::kConfigMap, from.configmapref());
        add_ref(ConfigKind::kSecret, from.secretref());
      }
      for (const auto& variable : container.env()) {
        add_ref(ConfigKind::kConfigMap, variable.valuefrom().configmapkeyref());
        add_ref(ConfigKind::kSecret, variable.valuefrom().secretkeyref());
      }
    }
  }
  for (const auto& secret : pod.spec().imagepullsecrets()) add(ConfigKind::kSecret, secret.name());
  return names;
}

void ConfigUse::set(const std::string& uid, std::set<ConfigName> names) {
  std::set<ConfigName> before = std::exchange(used_[uid], names);
  for (const ConfigName& name : names) {
    if (before.erase(name) != 0) continue;
    if (++users_[name] == 1) wants_.send({.kind = name.first, .object = name.second, .wanted = true});
  }
  for (const ConfigName& name : before) {
    if (--users_[name] != 0) continue;
    users_.erase(name);
    wants_.send({.kind = name.first, .object = name.second, .wanted = false});
  }
  if (names.empty()) used_.erase(uid);
}

}  // namespace fairlead::pods
