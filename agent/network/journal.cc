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

// Adds an element to the inside of a JSON list or object.
void append(std::string& list, std::string_view element) {
  list += list.empty() ? "\n " : ",\n ";
  list += element;
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

std::string JournalText::entry(const Attachment& attachment) {
  return to_json(attachment).dump(-1, ' ', false, Json::error_handler_t::replace);
}

void JournalText::add_attachment(std::string_view entry) {
  append(attachments_, entry);
}

void JournalText::add_resting(const std::map<IpAddress, WallTime>& resting) {
  for (const auto& [address, since] : resting) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since.time_since_epoch()).count();
    append(resting_, fmt::format("\"{}\": {}", address.str(), seconds));
  }
}

void JournalText::add_cursor(const IpAddress& address) {
  append(cursors_, fmt::format("\"{}\"", address.str()));
}

void JournalText::add_range(const Cidr& range) {
  append(ranges_, fmt::format("\"{}\"", range.str()));
}

std::string JournalText::text() const {
  return fmt::format(
      "{{\n\"version\": {},\n\"boot\": {},\n\"attachments\": [{}],\n\"resting\": {{{}}},\n\"cursors\": [{}],\n"
      "\"ranges\": [{}]\n}}\n",
      kVersion, Json(boot_).dump(-1, ' ', false, Json::error_handler_t::replace), attachments_, resting_, cursors_,
      ranges_);
}

Result<> Journal::save(const JournalText& text, bool durable) const {
  return write_atomically(path_, text.text(), {.durable = durable});
}

Result<> Journal::save(const JournalState& state, bool durable) const {
  JournalText text(state.boot);
  for (const Attachment& attachment : state.attachments) text.add_attachment(JournalText::entry(attachment));
  text.add_resting(state.resting);
  for (const IpAddress& address : state.cursors) text.add_cursor(address);
  for (const Cidr& range : state.ranges) text.add_range(range);
  return save(text, durable);
}

}  // namespace fairlead::network
