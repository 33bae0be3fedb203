// SPDX-License-Identifier: Apache-2.0
// A configuration file of kube-proxy's (KubeProxyConfiguration, kubeproxy.config.k8s.io/v1alpha1), read as it is.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/config/conntrack_settings.h"

namespace fairlead::config {

inline constexpr char kKubeProxyKind[] = "KubeProxyConfiguration";

// What such a file says, in this agent's terms. Every place is "FILE:LINE: field".
struct KubeProxyFile {
  struct Setting {
    std::string name;   // of one of our fields
    std::string value;  // its text
    std::string place;
  };
  std::vector<Setting> settings;
  ConntrackSettings conntrack;
  std::vector<std::string> without_effect;  // places of fields that are set to something and change nothing here
};

// kInvalid, with the place, for what is no such file: another kind, an unknown field, one that is set twice, a value of
// the wrong kind where it matters. Pure.
Result<KubeProxyFile> read_kube_proxy_file(const std::string& file, const std::string& text);

}  // namespace fairlead::config
