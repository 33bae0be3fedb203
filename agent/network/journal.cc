// SPDX-License-Identifier: Apache-2.0
#include "agent/network/journal.h"

#include "agent/base/atomic_file.h"

namespace fairlead::network {
namespace {

constexpr int kVersion = 1;

Result<JournalState> decode(const Json& json) {
  if (!json.is_object() || json.value("version", 0) != kVersion)
    return fail(Code::kInvalid, "want version {}", kVersion);
  JournalState state;
  state.boot = json.value("boot", "");
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
  for (const Json& text : json.value("ranges", Json::array())) {
    if (!text.is_string()) return fail(Code::kInvalid, "ranges: want strings");
    FL_LET(const Cidr range, Cidr::parse(text.get<std::string>()));
    state.ranges.push_back(range);
  }
  return state;
}

}  // namespace

Result<JournalState> Journal::load() const {
  FL_LET(const std::string text, read_file(path_));
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return fail(Code::kInvalid, "{}: not JSON", path_);
  try {
    auto state = decode(json);
    if (!state) return fail_with(std::move(state).error(), path_);
    return state;
  } catch (const Json::exception& error) {  // a member of another type than asked for
    return fail(Code::kInvalid, "{}: {}", path_, error.what());
  }
}

Result<> Journal::save(const JournalState& state, bool durable) const {
  Json json{{"version", kVersion},       {"boot", state.boot},       {"attachments", Json::array()},
            {"resting", Json::object()}, {"cursors", Json::array()}, {"ranges", Json::array()}};
  for (const Attachment& attachment : state.attachments) json["attachments"].push_back(to_json(attachment));
  for (const auto& [address, since] : state.resting) {
    json["resting"][address.str()] = std::chrono::duration_cast<std::chrono::seconds>(since.time_since_epoch()).count();
  }
  for (const IpAddress& address : state.cursors) json["cursors"].push_back(address.str());
  for (const Cidr& range : state.ranges) json["ranges"].push_back(range.str());
  return write_atomically(path_, json.dump(1) + "\n", {.durable = durable});
}

}  // namespace fairlead::network
