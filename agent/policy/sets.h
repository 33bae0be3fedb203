// SPDX-License-Identifier: Apache-2.0
// Sets by key, without empty ones.
#pragma once

namespace fairlead::policy {

// Takes `value` out of the set of `key`, and the set out of `map` with its last value. What is not there is no error.
template <class Map>
void erase_from(Map& map, const auto& key, const auto& value) {
  const auto at = map.find(key);
  if (at == map.end()) return;
  at->second.erase(value);
  if (at->second.empty()) map.erase(at);
}

}  // namespace fairlead::policy
