// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/cleanup.h"

#include <filesystem>

#include "agent/datapath/bpf_root.h"

namespace fairlead::datapath {

Result<> remove_pins(const std::string& bpf_root) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::exists(bpf_root, error)) return fail(Code::kNotFound, "{}: nothing is pinned there", bpf_root);
  FL_LET(const BpfRoot root, BpfRoot::open(bpf_root));  // no agent runs on it while we hold it
  // Links first: no program is left that reads a map which is gone.
  for (const char* folder : {"links", "maps", ""}) {
    fs::remove_all(fs::path(bpf_root) / folder, error);
    if (error) return fail_errno(error.value(), "remove " + (fs::path(bpf_root) / folder).string());
  }
  return {};
}

}  // namespace fairlead::datapath
