// SPDX-License-Identifier: Apache-2.0
// The API's protobuf framing: lists, and frames of a watch. Objects stay bytes here; who knows the kind parses them,
// one by one, so that a list of 250,000 endpoints never stands in memory as messages.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace fairlead::kube {

inline constexpr std::string_view kProtobufType = "application/vnd.kubernetes.protobuf";

// A list's metadata; its items go to `item` one by one.
struct ListHead {
  std::string resource_version;
  std::string next_page;  // `continue` token, empty on the last page
};

// Reads "k8s\0" + runtime.Unknown + XList. `item` gets each object's bytes, valid during the call.
Result<ListHead> read_list(std::string_view body, const std::function<Result<>(std::string_view)>& item);

// The bytes of the object inside "k8s\0" + runtime.Unknown.
Result<std::string> unwrap_object(std::string_view body);

// Of any kind's object, what a reflector itself needs.
struct ObjectHead {
  std::string ns, name, uid, resource_version;
  bool initial_events_end = false;  // a bookmark's: all that there was has been sent
};
Result<ObjectHead> read_head(std::string_view object);

struct WatchFrame {
  std::string type;    // ADDED, MODIFIED, DELETED, BOOKMARK, ERROR
  std::string object;  // the object's bytes; of a meta/v1 Status for ERROR
};

// Cuts a watch stream into frames: each a 4-byte big-endian length and that many bytes.
class FrameReader {
 public:
  // Feeds bytes; calls `frame` for each whole frame. A frame over 64 MiB or one that does not parse ends it with an
  // error.
  Result<> feed(std::string_view bytes, const std::function<Result<>(WatchFrame)>& frame);
  // Whether the stream so far ends inside a frame.
  bool torn() const { return !buffer_.empty(); }

 private:
  std::string buffer_;
};

}  // namespace fairlead::kube
