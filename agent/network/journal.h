// SPDX-License-Identifier: Apache-2.0
// Journal: what the pod network must know after a restart and cannot read back from the kernel: STATE_DIR/ipam.json.
#pragma once

#include <map>
#include <string>
#include <string_view>
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

// The file's text, made from what changed and what did not: an attachment's entry is written once and added to each
// text that follows, since every ADD and DEL writes one, and names all pods of the node.
class JournalText {
 public:
  explicit JournalText(std::string_view boot) : boot_(boot) {}
  static std::string entry(const Attachment& attachment);

  void add_attachment(std::string_view entry);
  void add_resting(const std::map<IpAddress, WallTime>& resting);
  void add_cursor(const IpAddress& address);
  void add_range(const Cidr& range);
  std::string text() const;

 private:
  std::string_view boot_;
  std::string attachments_, resting_, cursors_, ranges_;
};

// The file is replaced by rename and so is whole at any crash of ours. It is forced to disk where ranges changed only:
// the rest of what it names does not outlive the kernel.
class Journal {
 public:
  explicit Journal(const std::string& state_dir) : path_(state_dir + "/ipam.json") {}

  // kNotFound: there is none yet; kInvalid: it is not ours to read (the text says where it went wrong).
  Result<JournalState> load() const;
  Result<> save(const JournalText& text, bool durable = false) const;
  Result<> save(const JournalState& state, bool durable = false) const;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace fairlead::network
