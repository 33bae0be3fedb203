// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/manifests/last_good.h"

#include <openssl/sha.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "agent/base/atomic_file.h"
#include "agent/base/log.h"

namespace fairlead::kube {
namespace {
constexpr std::string_view kModule = "manifests";
constexpr std::string_view kVersion = "1";
constexpr yaml::Limits kLimits{.bytes = 64U << 20, .nodes = 4'000'000, .depth = 80};  // JSON is longer than its YAML

// A path as JSON. The directory's may be any bytes: what is no UTF-8 is replaced.
std::string json_text(std::string_view path) {
  return nlohmann::json(path).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

LastGood::LastGood(std::string folder, std::string manifests)
    : folder_(std::move(folder)), manifests_(std::move(manifests)) {}

std::string LastGood::file_of(const std::string& path) const {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> hash{};
  SHA256(reinterpret_cast<const unsigned char*>(path.data()), path.size(), hash.data());
  return fmt::format("{}/{:02x}.json", folder_, fmt::join(hash.begin(), hash.begin() + 16, ""));
}

std::map<std::string, std::vector<ManifestObject>> LastGood::load(const ManifestReader& reader) {
  std::map<std::string, std::vector<ManifestObject>> loaded;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, none)) {
    const std::string file = entry.path().string();
    if (!file.ends_with(".json")) continue;
    const auto skip = [&](std::string_view why) {
      log::warn(kModule, "a kept manifest cannot be used", {{"file", file}, {"reason", why}});
    };
    const auto text = read_file(file);
    if (!text) {
      skip(text.error().message());
      continue;
    }
    const auto root = yaml::parse_one(*text, kLimits);
    if (!root) {
      skip(root.error().reason);
      continue;
    }
    const yaml::Node* objects = root->get("objects");
    const std::string path(root->text_of("path"));
    if (root->text_of("version") != kVersion || path.empty() || objects == nullptr) {
      skip("not of version 1");
      continue;
    }
    if (json_text(root->text_of("directory")) != json_text(manifests_)) continue;
    ManifestContent content;
    for (const yaml::Node& node : objects->items) reader.read_object(node, {}, manifests_ + "/" + path, content);
    for (const ManifestRefusal& refusal : content.refusals) skip(path + ": " + refusal.errors.front().str());
    kept_[path] = *text;
    loaded[path] = std::move(content.objects);
  }
  return loaded;
}

Result<> LastGood::keep(const std::string& path, const std::vector<const ManifestObject*>& objects) {
  if (objects.empty()) {
    if (kept_.erase(path) == 0) return {};
    std::error_code error;
    std::filesystem::remove(file_of(path), error);
    if (error) return fail_errno(error.value(), "remove " + file_of(path));
    return {};
  }
  std::string text = fmt::format(R"({{"version":"{}","directory":{},"path":{},"objects":[)", kVersion,
                                 json_text(manifests_), json_text(path));
  for (std::size_t i = 0; i < objects.size(); ++i) text += (i == 0 ? "" : ",\n") + objects[i]->source;
  text += "]}\n";
  const auto at = kept_.find(path);
  if (at != kept_.end() && at->second == text) return {};
  if (kept_.empty()) {
    std::error_code error;
    std::filesystem::create_directories(folder_, error);
    if (error) return fail_errno(error.value(), "create directory " + folder_);
    std::filesystem::permissions(folder_, std::filesystem::perms::owner_all, error);
  }
  FL_TRY(write_atomically(file_of(path), text));
  kept_[path] = std::move(text);
  return {};
}

}  // namespace fairlead::kube
