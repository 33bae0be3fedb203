// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/readiness.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "agent/base/atomic_file.h"
#include "agent/base/log.h"

namespace fairlead::pods {
namespace {

using Json = nlohmann::json;
constexpr int kVersion = 1;

}  // namespace

Readiness::Readiness(std::string path, WallTime now) : path_(std::move(path)) {
  const auto text = read_file(path_);
  if (!text) {
    if (text.error().code == Code::kNotFound) return;
    forgotten_until_ = now;
    log::warn("pods", "readiness is forgotten", {{"error", text.error()}});
    return;
  }
  const Json file = Json::parse(*text, nullptr, false);
  if (!file.is_object() || file.value("version", Json()) != kVersion || !file.value("ready", Json()).is_array()) {
    forgotten_until_ = now;
    log::warn("pods", "readiness is forgotten: the file is not of version 1", {{"file", path_}});
    return;
  }
  for (auto& [key, ids] : {std::pair{"ready", &ready_}, {"started", &started_}}) {
    for (const Json& id : file.value(key, Json::array())) {
      if (id.is_string()) ids->insert(id.get<std::string>());
    }
  }
}

void Readiness::adopt(const std::string& container_id, WallTime started) {
  if (started >= forgotten_until_ || !adopted_.insert(container_id).second) return;
  set(container_id, true);
  set_started(container_id, true);
}

void Readiness::put(std::set<std::string>& ids, const std::string& id, bool in) {
  if (in ? ids.insert(id).second : ids.erase(id) != 0) write();
}

void Readiness::keep_only(const std::set<std::string>& container_ids) {
  const auto gone = [&](const std::string& id) { return !container_ids.contains(id); };
  if (std::erase_if(ready_, gone) + std::erase_if(started_, gone) != 0) write();
}

void Readiness::write() const {
  // It need not outlive the kernel: the containers do not either.
  const auto written = write_atomically(
      path_, Json{{"version", kVersion}, {"ready", ready_}, {"started", started_}}.dump(), {.durable = false});
  if (!written) log::warn("pods", "readiness is not kept", {{"error", written.error()}});
}

}  // namespace fairlead::pods
