// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/wire.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>
#include <k8s/meta.pb.h>

#include <cstdint>

namespace fairlead::kube {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

constexpr std::string_view kMagic("k8s\0", 4);
constexpr std::size_t kFrameLimit = 64U << 20;  // bytes

// Reads the fields of a message one by one, without a schema: `field` gets number and bytes of each length-delimited
// one.
Result<> each_field(std::string_view message, const std::function<Result<>(int, std::string_view)>& field) {
  CodedInputStream in(reinterpret_cast<const std::uint8_t*>(message.data()), static_cast<int>(message.size()));
  while (const std::uint32_t tag = in.ReadTag()) {
    if (WireFormatLite::GetTagWireType(tag) != WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
      if (!WireFormatLite::SkipField(&in, tag)) return fail(Code::kInvalid, "the API server's answer is cut short");
      continue;
    }
    std::uint32_t size = 0;
    if (!in.ReadVarint32(&size)) return fail(Code::kInvalid, "the API server's answer is cut short");
    const int at = in.CurrentPosition();
    if (!in.Skip(static_cast<int>(size))) return fail(Code::kInvalid, "the API server's answer is cut short");
    FL_TRY(field(WireFormatLite::GetTagFieldNumber(tag), message.substr(static_cast<std::size_t>(at), size)));
  }
  return {};
}

Result<std::string_view> unknown_raw(std::string_view body) {
  if (!body.starts_with(kMagic)) return fail(Code::kInvalid, "the API server's answer is not Kubernetes protobuf");
  std::string_view raw;
  constexpr int kRaw = 2;  // runtime.Unknown.raw
  FL_TRY(each_field(body.substr(kMagic.size()), [&](int number, std::string_view bytes) -> Result<> {
    if (number == kRaw) raw = bytes;
    return {};
  }));
  return raw;
}

}  // namespace

Result<ListHead> read_list(std::string_view body, const std::function<Result<>(std::string_view)>& item) {
  FL_LET(const std::string_view list, unknown_raw(body));
  ListHead head;
  constexpr int kMetadata = 1;
  constexpr int kItems = 2;
  FL_TRY(each_field(list, [&](int number, std::string_view bytes) -> Result<> {
    if (number == kItems) return item(bytes);
    if (number != kMetadata) return {};
    k8s::ListMeta meta;
    if (!meta.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
      return fail(Code::kInvalid, "metadata of a list does not parse");
    }
    head = {meta.resourceversion(), meta.continue_()};
    return {};
  }));
  return head;
}

Result<std::string> unwrap_object(std::string_view body) {
  FL_LET(const std::string_view raw, unknown_raw(body));
  return std::string(raw);
}

Result<ObjectHead> read_head(std::string_view object) {
  ObjectHead head;
  constexpr int kMetadata = 1;  // of every kind
  FL_TRY(each_field(object, [&](int number, std::string_view metadata) -> Result<> {
    if (number != kMetadata) return {};
    return each_field(metadata, [&](int field, std::string_view value) -> Result<> {
      constexpr int kName = 1, kNamespace = 3, kUid = 5, kResourceVersion = 6, kAnnotations = 12;
      if (field == kName) head.name = value;
      if (field == kNamespace) head.ns = value;
      if (field == kUid) head.uid = value;
      if (field == kResourceVersion) head.resource_version = value;
      if (field == kAnnotations && value.find("k8s.io/initial-events-end") != value.npos)
        head.initial_events_end = true;
      return {};
    });
  }));
  return head;
}

Result<> FrameReader::feed(std::string_view bytes, const std::function<Result<>(WatchFrame)>& frame) {
  buffer_.append(bytes);
  std::size_t at = 0;
  while (buffer_.size() - at >= 4) {
    const auto* head = reinterpret_cast<const std::uint8_t*>(buffer_.data() + at);
    const std::size_t size =
        (std::size_t{head[0]} << 24) | (std::size_t{head[1]} << 16) | (std::size_t{head[2]} << 8) | head[3];
    if (size > kFrameLimit) return fail(Code::kInvalid, "a watch frame of {} bytes", size);
    if (buffer_.size() - at - 4 < size) break;
    k8s::WatchEvent event;
    if (!event.ParseFromArray(buffer_.data() + at + 4, static_cast<int>(size))) {
      return fail(Code::kInvalid, "a watch frame does not parse");
    }
    at += 4 + size;
    FL_LET(std::string object, unwrap_object(event.object().raw()));
    FL_TRY(frame(WatchFrame{event.type(), std::move(object)}));
  }
  buffer_.erase(0, at);
  return {};
}

}  // namespace fairlead::kube
