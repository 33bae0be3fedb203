// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/pull_secrets.h"

#include <fnmatch.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "agent/kube/codec/base64.h"

namespace fairlead::pods {
namespace {

using Json = nlohmann::json;

// A registry's host and what is below it.
struct Place {
  std::string host;
  std::string path;
};

// "docker.io" stands for what Docker's own words call index.docker.io.
std::string plain_host(std::string host) {
  return host.empty() || host == "index.docker.io" || host == "registry-1.docker.io" ? "docker.io" : host;
}

Place split(std::string text) {
  const std::size_t slash = text.find('/');
  Place place{text.substr(0, slash), slash == std::string::npos ? "" : text.substr(slash + 1)};
  while (place.path.ends_with('/')) place.path.pop_back();
  return place;
}

// Of a key of "auths": a scheme and an API version in front of or behind it say nothing.
Place place_of(std::string text) {
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (text.starts_with(scheme)) text.erase(0, scheme.size());
  }
  Place place = split(std::move(text));
  if (place.path == "v1" || place.path == "v2") place.path.clear();
  place.host = plain_host(std::move(place.host));
  return place;
}

// An image without a host in front is Docker Hub's.
Place repository_of(std::string image) {
  image = image.substr(0, image.find('@'));
  if (const std::size_t colon = image.rfind(':'); colon != std::string::npos && image.find('/', colon) == image.npos) {
    image.resize(colon);
  }
  Place place = split(image);
  const bool is_host =
      image.contains('/') && (place.host.find_first_of(".:") != std::string::npos || place.host == "localhost");
  if (!is_host) return {"docker.io", image.contains('/') ? image : "library/" + image};
  place.host = plain_host(std::move(place.host));
  return place;
}

// Host names match label by label, so that a star stands for one label.
bool host_matches(const std::string& pattern, const std::string& host) {
  if (std::ranges::count(pattern, '.') != std::ranges::count(host, '.')) return false;
  if (pattern.contains(':') != host.contains(':')) return false;
  return fnmatch(pattern.c_str(), host.c_str(), 0) == 0;
}

bool is_for(const Place& place, const Place& image) {
  if (!host_matches(place.host, image.host)) return false;
  return place.path.empty() || image.path == place.path || image.path.starts_with(place.path + "/");
}

std::string text_of(const Json& entry, const char* key) {
  const auto at = entry.find(key);
  return at != entry.end() && at->is_string() ? at->get<std::string>() : "";
}

}  // namespace

Result<std::vector<RegistryLogin>> registry_logins(const model::ConfigData& secret) {
  Json auths;
  if (const auto at = secret.data.find(".dockerconfigjson"); at != secret.data.end()) {
    const Json file = Json::parse(at->second, nullptr, false);
    if (file.is_object()) auths = file.value("auths", Json::object());
  } else if (const auto old = secret.data.find(".dockercfg"); old != secret.data.end()) {
    auths = Json::parse(old->second, nullptr, false);
  }
  if (!auths.is_object()) return fail(Code::kInvalid, "secret \"{}\" holds no Docker configuration", secret.id.name);
  std::vector<RegistryLogin> logins;
  for (const auto& [place, entry] : auths.items()) {
    if (!entry.is_object()) continue;
    RegistryLogin login{.place = place, .auth = {}};
    login.auth.set_username(text_of(entry, "username"));
    login.auth.set_password(text_of(entry, "password"));
    login.auth.set_identity_token(text_of(entry, "identitytoken"));
    login.auth.set_registry_token(text_of(entry, "registrytoken"));
    if (const auto pair = kube::base64_decode(text_of(entry, "auth")); pair && login.auth.username().empty()) {
      const std::size_t colon = pair->find(':');
      if (colon != std::string::npos) {
        login.auth.set_username(pair->substr(0, colon));
        login.auth.set_password(pair->substr(colon + 1));
      }
    }
    logins.push_back(std::move(login));
  }
  return logins;
}

std::vector<::runtime::v1::AuthConfig> logins_for(const std::string& image, std::vector<RegistryLogin> logins) {
  const Place repository = repository_of(image);
  std::erase_if(logins, [&](const RegistryLogin& login) { return !is_for(place_of(login.place), repository); });
  std::ranges::stable_sort(logins, std::ranges::greater(),
                           [](const RegistryLogin& login) { return place_of(login.place).path.size(); });
  std::vector<::runtime::v1::AuthConfig> auths;
  for (auto& login : logins) auths.push_back(std::move(login.auth));
  return auths;
}

}  // namespace fairlead::pods
