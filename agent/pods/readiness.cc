// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/readiness.h"

#include <nlohmann/json.hpp>

#include "agent/base/atomic_file.h"
#include "agent/base/log.h"

namespace fairlead::pods {
namespace {

using Json = nlohmann::json;
constexpr int kVersion = 1;

}  // namespace

Readiness::Readiness(std::string path) : path_(std::move(path)) {
  const auto text = read_file(path_);
  if (!text) {
    if (text.error().code != Code::kNotFound) log::warn("pods", "readiness is forgotten", {{"error", text.error()}});
    return;
  }
  const Json file = Json::parse(*text, nullptr, false);
  if (!file.is_object() || file.value("version", Json()) != kVersion || !file.value("ready", Json()).is_array()) {
    log::warn("pods", "readiness is forgotten: the file is not of version 1", {{"file", path_}});
    return;
  }
  for (const Json& id : file["ready"]) {
    if (id.is_string()) ready_.insert(id.get<std::string>());
  }
}

void Readiness::set(const std::string& container_id, bool ready) {
  const bool news = ready ? ready_.insert(container_id).second : ready_.erase(container_id) != 0;
  if (!news) return;
  // It need not outlive the kernel: the containers do not either.
  const auto written =
      write_atomically(path_, Json{{"version", kVersion}, {"ready", ready_}}.dump(), {.durable = false});
  if (!written) log::warn("pods", "readiness is not kept", {{"error", written.error()}});
}

}  // namespace fairlead::pods
