// SPDX-License-Identifier: Apache-2.0
// The table behind fields.h: one entry for every field that can be reached from Pod or Service through acted-on fields.
// A harmless or refused field speaks for all that is inside it.
#pragma once

#include <span>
#include <string_view>

namespace fairlead::kube {

enum class FieldClass {
  kActs,      // this release does what it says
  kHarmless,  // nothing on this node is missed without it; reported
  kRefused,   // without it the pod would have more rights, or be another pod: it does not run
};

struct FieldEntry {
  std::string_view field;  // "PodSpec.hostPID": message type and field
  FieldClass what;
  // Values ("a|b", a trailing * matches the rest; of a map: keys). Acted on: only these, others are refused; none: all.
  // Harmless and refused: these mean the same as leaving the field out.
  std::string_view values = {};
};

// Sorted by field.
std::span<const FieldEntry> field_table();

// The entry of "Message.field", or nullptr.
const FieldEntry* find_field(std::string_view field);

}  // namespace fairlead::kube
