// SPDX-License-Identifier: Apache-2.0
// Shrinking: of a long sequence that fails, a short one that still does.
#pragma once

#include <algorithm>
#include <functional>
#include <vector>

namespace fairlead::model {

// Takes pieces out, large ones first, as long as `fails` says that what is left fails; at most `tries` times asked.
template <class Step>
std::vector<Step> shrink(std::vector<Step> steps, const std::function<bool(const std::vector<Step>&)>& fails,
                         int tries = 400) {
  for (std::size_t piece = steps.size() / 2; piece != 0 && tries > 0;) {
    bool shorter = false;
    for (std::size_t at = 0; at < steps.size() && tries > 0;) {
      std::vector<Step> rest(steps.begin(), steps.begin() + static_cast<std::ptrdiff_t>(at));
      rest.insert(rest.end(), steps.begin() + static_cast<std::ptrdiff_t>(std::min(at + piece, steps.size())),
                  steps.end());
      --tries;
      if (fails(rest)) {
        steps = std::move(rest);
        shorter = true;
      } else {
        at += piece;
      }
    }
    if (!shorter || piece > steps.size()) piece = std::min(piece / 2, steps.size() / 2);
  }
  return steps;
}

}  // namespace fairlead::model
