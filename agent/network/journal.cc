// SPDX-License-Identifier: Apache-2.0
#include "agent/network/journal.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "agent/base/unique_fd.h"

namespace fairlead::network {
namespace {

constexpr int kVersion = 1;

Result<JournalState> decode(const Json& json) {
  if (!json.is_object() || json.value("version", 0) != kVersion)
    return fail(Code::kInvalid, "want version {}", kVersion);
  JournalState state;
  for (const Json& entry : json.value("attachments", Json::array())) {
    FL_LET(Attachment attachment, from_json(entry));
    state.attachments.push_back(std::move(attachment));
  }
  const Json resting = json.value("resting", Json::object());
  for (const auto& [text, since] : resting.items()) {
    FL_LET(const IpAddress address, IpAddress::parse(text));
    if (!since.is_number_integer()) return fail(Code::kInvalid, "resting.{}: want seconds", text);
    state.resting[address] = WallTime(std::chrono::seconds(since.get<std::int64_t>()));
  }
  for (const Json& text : json.value("cursors", Json::array())) {
    if (!text.is_string()) return fail(Code::kInvalid, "cursors: want strings");
    FL_LET(const IpAddress address, IpAddress::parse(text.get<std::string>()));
    state.cursors.push_back(address);
  }
  return state;
}

}  // namespace

Result<JournalState> Journal::load() const {
  std::ifstream file(path_);
  if (!file) return fail_errno(errno, fmt::format("open {}", path_));
  const Json json = Json::parse(file, nullptr, false);
  if (json.is_discarded()) return fail(Code::kInvalid, "{}: not JSON", path_);
  try {
    auto state = decode(json);
    if (!state) return fail_with(std::move(state).error(), path_);
    return state;
  } catch (const Json::exception& error) {  // a member of another type than asked for
    return fail(Code::kInvalid, "{}: {}", path_, error.what());
  }
}

Result<> Journal::save(const JournalState& state) const {
  Json json{
      {"version", kVersion}, {"attachments", Json::array()}, {"resting", Json::object()}, {"cursors", Json::array()}};
  for (const Attachment& attachment : state.attachments) json["attachments"].push_back(to_json(attachment));
  for (const auto& [address, since] : state.resting) {
    json["resting"][address.str()] = std::chrono::duration_cast<std::chrono::seconds>(since.time_since_epoch()).count();
  }
  for (const IpAddress& address : state.cursors) json["cursors"].push_back(address.str());
  return replace_file(path_, json.dump(1) + "\n", 0600);
}

Result<> replace_file(const std::string& path, const std::string& text, unsigned mode) {
  const std::string fresh = path + ".tmp";
  UniqueFd fd(open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd) return fail_errno(errno, fmt::format("create {}", fresh));
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t written = write(fd.get(), rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail_errno(errno, fmt::format("write {}", fresh));
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  if (fchmod(fd.get(), mode) != 0) return fail_errno(errno, fmt::format("set the mode of {}", fresh));
  if (rename(fresh.c_str(), path.c_str()) != 0) return fail_errno(errno, fmt::format("rename {} to {}", fresh, path));
  return {};
}

}  // namespace fairlead::network
