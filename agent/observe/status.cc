// SPDX-License-Identifier: Apache-2.0
#include "agent/observe/status.h"

namespace fairlead::observe {
namespace {

Json field(const Json& answer, const char* name, Json otherwise) {
  const auto at = answer.find(name);
  return at != answer.end() && at->type() == otherwise.type() ? *at : otherwise;
}

std::string text_of(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

void append(Json& all, const Json& more) {
  all.insert(all.end(), more.begin(), more.end());
}

void add(Status& status, const std::string& module, Json answer) {
  const bool synced = field(answer, "synced", field(answer, "complete", false)).get<bool>();
  const Json missing = field(answer, "missing", Json::array());
  const Json failing = field(answer, "failing", Json::object());
  for (const Json& what : missing) status.missing.push_back(module + ": " + text_of(what));
  for (const auto& [object, why] : failing.items()) status.failing[module + ": " + object] = text_of(why);
  if (!synced && missing.empty() && failing.empty()) status.missing.push_back(module + ": changes are under way");
  // A source that cannot reach an API server keeps what it has, but does not know what has changed since.
  const bool cut_off = answer.contains("complete") && !failing.empty();
  status.synced = status.synced && synced && !cut_off;
  status.serving = status.serving && field(answer, "adopted", true).get<bool>();
  append(status.maps, field(answer, "maps", Json::array()));
  append(status.refused, field(answer, "refused", Json::array()));
  for (const char* told : {"missing", "failing", "maps", "refused"}) answer.erase(told);
  status.components[module] = std::move(answer);
}

}  // namespace

Status aggregate(const std::map<std::string, Result<Json>>& answers) {
  Status status;
  for (const auto& [module, answer] : answers) {
    if (answer && answer->is_object()) {
      add(status, module, *answer);
      continue;
    }
    const std::string why = answer ? "answered with no object" : answer.error().message();
    status.answered = status.serving = status.synced = false;
    status.missing.push_back(module + ": " + why);
    status.components[module] = {{"error", why}};
  }
  return status;
}

Json to_json(const Status& status) {
  return {{"ready", status.synced},         {"serving", status.serving}, {"missing", status.missing},
          {"failing", status.failing},      {"maps", status.maps},       {"refused", status.refused},
          {"components", status.components}};
}

}  // namespace fairlead::observe
