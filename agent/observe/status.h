// SPDX-License-Identifier: Apache-2.0
// One status of the agent out of what its modules say of themselves. Pure.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "agent/base/local_protocol.h"

namespace fairlead::observe {

// What a module's sync operation is asked to answer; every field but the first is optional.
//   synced: bool ("complete" where a source of objects answers)   missing: [what has not come yet]
//   adopted: bool: what ran before the agent started is known and looked after (true where it is not said)
//   failing: {object: reason}   maps: [{map, used, capacity}]   refused: [objects that are not in force]
struct Status {
  bool answered = true;                        // by every module
  bool serving = true;                         // every module answers, and has adopted what was there
  bool synced = true;                          // every list is complete, up to date as far as is known, and in the maps
  std::vector<std::string> missing;            // "services: EndpointSlice", "pods: no answer …"
  std::map<std::string, std::string> failing;  // "services: default/web" → why
  Json maps = Json::array();
  Json refused = Json::array();
  Json components = Json::object();  // module → its answer, less what is above, or {error}
};

Status aggregate(const std::map<std::string, Result<Json>>& answers);

// {ready, serving, missing, failing, maps, refused, components}.
Json to_json(const Status& status);

}  // namespace fairlead::observe
