// SPDX-License-Identifier: Apache-2.0
// The table of settings: one row is one setting, with its flag, its name in the file, its help, its reading and
// printing.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/config/configuration.h"

namespace fairlead::config {

struct Field {
  std::string group;         // heading in --help
  std::string flag;          // "pod-cidr"; empty: only in the file
  std::string name;          // "podCIDR", as in the file
  std::string placeholder;   // "CIDR[,CIDR]"
  std::string help;          // full sentences, without the default
  std::string default_text;  // said in --help where the default is not the struct's own; may be empty
  // Sets the value from its text; the error says only what is wrong with it.
  std::function<Result<>(AgentConfiguration&, const std::string&)> set;
  // The value as --config would read it; null where it is unset.
  std::function<Json(const AgentConfiguration&)> get;
};

const std::vector<Field>& fields();

// The candidate that `word` was probably meant to be, or empty.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

// "1m30s", "250ms", "0": a duration as Kubernetes writes it, not negative.
Result<std::chrono::milliseconds> parse_duration(std::string_view text);
std::string format_duration(std::chrono::milliseconds duration);

}  // namespace fairlead::config
