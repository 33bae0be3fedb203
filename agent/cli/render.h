// SPDX-License-Identifier: Apache-2.0
// JSON as people read it: aligned tables and YAML. Pure.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "agent/base/local_protocol.h"

namespace fairlead::cli {

struct Column {
  std::string title;
  std::function<std::string(const Json& row)> cell;
};

// Columns as wide as their widest cell, three spaces apart, an empty cell as <none>, like kubectl's. Only the titles
// where there are no rows.
std::string render_table(const Json& rows, const std::vector<Column>& columns);

// The value as a YAML document; keys in the order of the JSON.
std::string render_yaml(const Json& value);

// A value in one cell: text as it stands, lists joined by commas, nothing for null.
std::string cell_text(const Json& value);
// The row's value of that name, or null.
const Json& at(const Json& row, const std::string& name);
// "10.0.0.1:80", "[fd00::1]:80".
std::string socket_text(const Json& address, const Json& port);

}  // namespace fairlead::cli
