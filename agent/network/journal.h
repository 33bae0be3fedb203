// SPDX-License-Identifier: Apache-2.0
// Journal: what the pod network must know after a restart and cannot read back from the kernel: STATE_DIR/ipam.json.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/network/attachment.h"

namespace fairlead::network {

struct JournalState {
  std::string boot;                       // boot_id() of who wrote it: attachments do not outlive theirs
  std::vector<Attachment> attachments;    // written before their devices are made
  std::map<IpAddress, WallTime> resting;  // released addresses, and when
  std::vector<IpAddress> cursors;         // last address handed out, of each family
  std::vector<Cidr> ranges;               // in force: a start without the API server goes on with them
};

// The file is replaced by rename and so is whole at any crash of ours. It is forced to disk where ranges changed only:
// the rest of what it names does not outlive the kernel.
class Journal {
 public:
  explicit Journal(const std::string& state_dir) : path_(state_dir + "/ipam.json") {}

  // kNotFound: there is none yet; kInvalid: it is not ours to read (the text says where it went wrong).
  Result<JournalState> load() const;
  Result<> save(const JournalState& state, bool durable = false) const;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace fairlead::network
