// SPDX-License-Identifier: Apache-2.0
// Payload: the files of a ConfigMap or Secret volume, and how they get into place all at once.
#pragma once

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace fairlead::pods {

struct PayloadFile {
  std::string data;
  mode_t mode = 0644;
  std::optional<uid_t> user = {};  // owns it; nullopt: whoever the agent is
  bool operator==(const PayloadFile&) const = default;
};

// By path below the volume, normalised by checked_item_path().
using Payload = std::map<std::string, PayloadFile>;

// `path` without doubled or trailing slashes; refused (kInvalid) where it is empty, absolute, holds "..", or begins
// with "..", which the layout below keeps for itself.
Result<std::string> checked_item_path(std::string_view path);

// Makes the folder `dir` show exactly `payload`, in kubelet's layout: the files lie in a folder "..<time>.<n>",
// "..data" links to it, and each first name of a path is a link through "..data". A changed set is a new folder and one
// rename of "..data": a reader sees the old set or the new one. Files and folders go to group `gid` where it is given.
// True: something changed. Blocks; on failure the old set stays in force. Errors name the path and the call.
Result<bool> write_payload(const std::string& dir, const Payload& payload, std::optional<gid_t> gid);

}  // namespace fairlead::pods
