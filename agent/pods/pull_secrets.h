// SPDX-License-Identifier: Apache-2.0
// Credentials of registries, as Secrets of type kubernetes.io/dockerconfigjson (or dockercfg) hold them. Pure.
#pragma once

#include <cri/v1.pb.h>

#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/model/rows.h"

namespace fairlead::pods {

struct RegistryLogin {
  std::string place;  // as written: "registry.example:5000/team", "*.example", "https://index.docker.io/v1/"
  ::runtime::v1::AuthConfig auth;
};

// The logins that a Secret holds. kInvalid: it is not of that form; the text holds nothing of its content.
Result<std::vector<RegistryLogin>> registry_logins(const model::ConfigData& secret);

// Those that are for `image`, the most particular place first.
std::vector<::runtime::v1::AuthConfig> logins_for(const std::string& image, std::vector<RegistryLogin> logins);

}  // namespace fairlead::pods
