// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/codec/text.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <k8s/meta.pb.h>
#include <k8s/options.pb.h>
#include <k8s/scalars.pb.h>

#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <unordered_map>

#include "agent/base/result.h"
#include "agent/kube/codec/base64.h"
#include "agent/kube/codec/quantity.h"
#include "agent/kube/codec/time.h"

namespace fairlead::kube {
namespace {

namespace pb = google::protobuf;
using Json = nlohmann::ordered_json;
using yaml::Node;

constexpr std::size_t kMaxErrors = 20;

bool is_inline(const pb::FieldDescriptor& field) {
  return field.options().GetExtension(k8s::inline_);
}

// A string that YAML would not read as a number, a truth value or nothing.
bool is_string(const Node& node) {
  return node.kind == Node::Kind::kScalar &&
         (!node.plain || !(yaml::is_bool_word(node.text) || yaml::is_number(node.text)));
}

// A number's text; as a string what JSON has no number for.
Json number_json(const std::string& text) {
  __int128 number = 0;
  if (yaml::is_integer(text, &number)) {
    if (number > std::numeric_limits<std::int64_t>::max()) return static_cast<std::uint64_t>(number);
    if (number >= std::numeric_limits<std::int64_t>::min()) return static_cast<std::int64_t>(number);
    return text;
  }
  const double real = std::strtod(text.c_str(), nullptr);
  return std::isfinite(real) ? Json(real) : Json(text);
}

Json any_json(const Node& node) {
  switch (node.kind) {
    case Node::Kind::kNull:
      return nullptr;
    case Node::Kind::kSequence: {
      Json list = Json::array();
      for (const Node& item : node.items) list.push_back(any_json(item));
      return list;
    }
    case Node::Kind::kMap: {
      Json map = Json::object();
      for (const yaml::Field& field : node.fields) map[field.key] = any_json(field.value);
      return map;
    }
    case Node::Kind::kScalar:
      break;
  }
  bool truth = false;
  if (node.plain && yaml::is_bool_word(node.text, &truth)) return truth;
  return node.plain && yaml::is_number(node.text) ? number_json(node.text) : Json(node.text);
}

// ---- Special scalars: one text decoder and one encoder for each message type.

std::string expected(std::string_view what, const Node& node) {
  return fmt::format("expected {}, got {}", what, yaml::kind_name(node));
}

using Decode = std::string (*)(const Node&, pb::Message&);  // answers what is wrong, or ""
using Encode = Json (*)(const pb::Message&);

std::string decode_quantity(const Node& node, pb::Message& into) {
  if (node.kind != Node::Kind::kScalar || (node.plain && yaml::is_bool_word(node.text))) {
    return expected("a quantity", node);
  }
  const auto quantity = Quantity::parse(node.text);
  if (!quantity) return quantity.error().what;
  static_cast<k8s::Quantity&>(into).set_string(quantity->str());
  return {};
}
Json encode_quantity(const pb::Message& from) {
  return static_cast<const k8s::Quantity&>(from).string();
}

std::string decode_int_or_string(const Node& node, pb::Message& into) {
  auto& value = static_cast<k8s::IntOrString&>(into);
  __int128 number = 0;
  if (node.kind == Node::Kind::kScalar && node.plain && yaml::is_integer(node.text, &number)) {
    if (number < std::numeric_limits<std::int32_t>::min() || number > std::numeric_limits<std::int32_t>::max()) {
      return fmt::format("{} does not fit into 32 bits", node.text);
    }
    value.set_type(0);
    value.set_intval(static_cast<std::int32_t>(number));
    return {};
  }
  if (!is_string(node)) return expected("an integer or a string", node);
  value.set_type(1);
  value.set_strval(node.text);
  return {};
}
Json encode_int_or_string(const pb::Message& from) {
  const auto& value = static_cast<const k8s::IntOrString&>(from);
  return value.type() == 1 ? Json(value.strval()) : Json(value.intval());
}

// What is finer than `step` nanoseconds is dropped, as the API does: text would not show it.
template <class T, std::int32_t step>
std::string decode_time(const Node& node, pb::Message& into) {
  if (!is_string(node)) return expected("a time", node);
  const auto time = parse_time(node.text);
  if (!time) return time.error().what;
  static_cast<T&>(into).set_seconds(time->seconds);
  static_cast<T&>(into).set_nanos(time->nanos / step * step);
  return {};
}
template <class T>
Timestamp timestamp(const pb::Message& from) {
  return {static_cast<const T&>(from).seconds(), static_cast<const T&>(from).nanos()};
}
bool is_no_time(const pb::Message& from) {
  if (from.GetDescriptor() == k8s::Time::descriptor()) return timestamp<k8s::Time>(from) == Timestamp();
  return from.GetDescriptor() == k8s::MicroTime::descriptor() && timestamp<k8s::MicroTime>(from) == Timestamp();
}
// No time at all goes over the wire as an empty message, and in text as null.
Json encode_time(const pb::Message& from) {
  const Timestamp time = timestamp<k8s::Time>(from);
  return time == Timestamp() ? Json() : Json(format_time(time));
}
Json encode_micro_time(const pb::Message& from) {
  const Timestamp time = timestamp<k8s::MicroTime>(from);
  return time == Timestamp() ? Json() : Json(format_micro_time(time));
}

std::string decode_duration(const Node& node, pb::Message& into) {
  if (!is_string(node) && !(node.kind == Node::Kind::kScalar && node.text == "0")) return expected("a duration", node);
  const auto duration = parse_duration(node.text);
  if (!duration) return duration.error().what;
  static_cast<k8s::Duration&>(into).set_duration(duration->count());
  return {};
}
Json encode_duration(const pb::Message& from) {
  return format_duration(Duration(static_cast<const k8s::Duration&>(from).duration()));
}

std::string decode_fields(const Node& node, pb::Message& into) {
  if (node.kind != Node::Kind::kMap) return expected("a map", node);
  static_cast<k8s::FieldsV1&>(into).set_raw(any_json(node).dump());
  return {};
}
Json encode_fields(const pb::Message& from) {
  Json json = Json::parse(static_cast<const k8s::FieldsV1&>(from).raw(), nullptr, false);
  return json.is_discarded() ? Json::object() : json;
}

struct Special {
  Decode decode;
  Encode encode;
};

const Special* special(const pb::Descriptor* type) {
  static const std::unordered_map<const pb::Descriptor*, Special> kSpecials{
      {k8s::Quantity::descriptor(), {decode_quantity, encode_quantity}},
      {k8s::IntOrString::descriptor(), {decode_int_or_string, encode_int_or_string}},
      {k8s::Time::descriptor(), {decode_time<k8s::Time, 1'000'000'000>, encode_time}},
      {k8s::MicroTime::descriptor(), {decode_time<k8s::MicroTime, 1'000>, encode_micro_time}},
      {k8s::Duration::descriptor(), {decode_duration, encode_duration}},
      {k8s::FieldsV1::descriptor(), {decode_fields, encode_fields}},
  };
  const auto at = kSpecials.find(type);
  return at == kSpecials.end() ? nullptr : &at->second;
}

// ---- Text to message.

class Reader {
 public:
  FieldErrors take() { return std::move(errors_); }

  void message(const Node& node, unsigned line, pb::Message& into, const std::string& path, bool top) {
    if (const Special* scalar = special(into.GetDescriptor())) {
      if (std::string why = scalar->decode(node, into); !why.empty()) report(path, std::move(why), line);
      return;
    }
    if (node.kind != Node::Kind::kMap) return report(path, expected("a map", node), line);
    for (const yaml::Field& entry : node.fields) {
      if (top && (entry.key == "apiVersion" || entry.key == "kind")) continue;
      const std::string name = path.empty() ? entry.key : path + "." + entry.key;
      pb::Message* owner = &into;
      const pb::FieldDescriptor* field = find(owner, entry.key, entry.value.kind != Node::Kind::kNull);
      if (field == nullptr) {
        report(name, "unknown field", entry.line);
      } else if (entry.value.kind != Node::Kind::kNull) {
        value(entry, *owner, *field, name);
      }
    }
  }

 private:
  void report(std::string field, std::string reason, unsigned line) {
    if (errors_.size() < kMaxErrors) errors_.push_back({std::move(field), std::move(reason), line});
  }

  // The field called `key` in `owner` or in a message that is inline in it; `owner` becomes the message that has it,
  // which is made when `make`.
  static const pb::FieldDescriptor* find(pb::Message*& owner, const std::string& key, bool make) {
    const pb::Descriptor* type = owner->GetDescriptor();
    if (const auto* field = type->FindFieldByName(key); field != nullptr && !is_inline(*field)) return field;
    for (int i = 0; i < type->field_count(); ++i) {
      const pb::FieldDescriptor* outer = type->field(i);
      if (!is_inline(*outer)) continue;
      const auto* field = outer->message_type()->FindFieldByName(key);
      if (field == nullptr || is_inline(*field)) continue;
      if (make) owner = owner->GetReflection()->MutableMessage(owner, outer);
      return field;
    }
    return nullptr;
  }

  void value(const yaml::Field& entry, pb::Message& into, const pb::FieldDescriptor& field, const std::string& path) {
    const pb::Reflection* access = into.GetReflection();
    const Node& node = entry.value;
    if (field.is_map()) {
      if (node.kind != Node::Kind::kMap) return report(path, expected("a map", node), entry.line);
      const pb::FieldDescriptor* key = field.message_type()->map_key();
      const pb::FieldDescriptor* mapped = field.message_type()->map_value();
      for (const yaml::Field& pair : node.fields) {
        pb::Message* slot = access->AddMessage(&into, &field);
        slot->GetReflection()->SetString(slot, key, pair.key);
        single(pair.value, pair.line, *slot, *mapped, path + "[" + pair.key + "]", false);
      }
      return;
    }
    if (!field.is_repeated()) return single(node, entry.line, into, field, path, false);
    if (node.kind != Node::Kind::kSequence) return report(path, expected("a list", node), entry.line);
    for (std::size_t i = 0; i < node.items.size(); ++i) {
      single(node.items[i], node.items[i].line, into, field, path + "[" + std::to_string(i) + "]", true);
    }
  }

  // One value, which is set or, for a list, added.
  void single(const Node& node, unsigned line, pb::Message& into, const pb::FieldDescriptor& field,
              const std::string& path, bool add) {
    const pb::Reflection* access = into.GetReflection();
    using Type = pb::FieldDescriptor;
    const auto wrong = [&](std::string_view what) { report(path, expected(what, node), line); };
    switch (field.cpp_type()) {
      case Type::CPPTYPE_MESSAGE:
        if (node.kind == Node::Kind::kNull) return wrong("a value");
        message(node, line, *(add ? access->AddMessage(&into, &field) : access->MutableMessage(&into, &field)), path,
                false);
        // The first moment of 1970 is how no time at all goes over the wire.
        if (!add && is_no_time(access->GetMessage(into, &field))) access->ClearField(&into, &field);
        return;
      case Type::CPPTYPE_STRING: {
        if (!is_string(node)) {
          const bool quotable = node.kind == Node::Kind::kScalar;
          return wrong(quotable ? "a string (put it in quotes)" : "a string");
        }
        std::string text = node.text;
        if (field.type() == Type::TYPE_BYTES) {
          auto bytes = base64_decode(text);
          if (!bytes) return report(path, bytes.error().what, line);
          text = std::move(*bytes);
        }
        return add ? access->AddString(&into, &field, std::move(text))
                   : access->SetString(&into, &field, std::move(text));
      }
      case Type::CPPTYPE_BOOL: {
        bool truth = false;
        if (node.kind != Node::Kind::kScalar || !node.plain || !yaml::is_bool_word(node.text, &truth)) {
          return wrong("a bool");
        }
        return add ? access->AddBool(&into, &field, truth) : access->SetBool(&into, &field, truth);
      }
      case Type::CPPTYPE_INT32:
        return integer<std::int32_t>(node, line, path, [&](std::int32_t number) {
          add ? access->AddInt32(&into, &field, number) : access->SetInt32(&into, &field, number);
        });
      case Type::CPPTYPE_INT64:
        return integer<std::int64_t>(node, line, path, [&](std::int64_t number) {
          add ? access->AddInt64(&into, &field, number) : access->SetInt64(&into, &field, number);
        });
      default:
        return report(path, fmt::format("fields of type {} have no text form", field.type_name()), line);
    }
  }

  template <class Int>
  void integer(const Node& node, unsigned line, const std::string& path, const std::function<void(Int)>& set) {
    __int128 number = 0;
    if (node.kind != Node::Kind::kScalar || !node.plain || !yaml::is_integer(node.text, &number)) {
      return report(path, expected("an integer", node), line);
    }
    if (number < std::numeric_limits<Int>::min() || number > std::numeric_limits<Int>::max()) {
      return report(path, fmt::format("{} does not fit into {} bits", node.text, sizeof(Int) * 8), line);
    }
    set(static_cast<Int>(number));
  }

  FieldErrors errors_;
};

// ---- Message to text.

Json element(const pb::Message& message, const pb::FieldDescriptor& field, int index);

void fill(const pb::Message& message, Json& into) {
  const pb::Descriptor* type = message.GetDescriptor();
  const pb::Reflection* access = message.GetReflection();
  for (int i = 0; i < type->field_count(); ++i) {
    const pb::FieldDescriptor& field = *type->field(i);
    if (field.is_repeated()) {
      const int count = access->FieldSize(message, &field);
      if (count == 0) continue;
      if (!field.is_map()) {
        Json& list = into[field.name()] = Json::array();
        for (int at = 0; at < count; ++at) list.push_back(element(message, field, at));
        continue;
      }
      std::map<std::string, Json> sorted;
      for (int at = 0; at < count; ++at) {
        const pb::Message& pair = access->GetRepeatedMessage(message, &field, at);
        sorted[pair.GetReflection()->GetString(pair, field.message_type()->map_key())] =
            element(pair, *field.message_type()->map_value(), -1);
      }
      Json& map = into[field.name()] = Json::object();
      for (auto& [key, value] : sorted) map[key] = std::move(value);
    } else if (access->HasField(message, &field)) {
      if (is_inline(field)) {
        fill(access->GetMessage(message, &field), into);
      } else {
        into[field.name()] = element(message, field, -1);
      }
    }
  }
}

// The field's value, or its element `index` where that is not negative.
Json element(const pb::Message& message, const pb::FieldDescriptor& field, int index) {
  const pb::Reflection* access = message.GetReflection();
  const bool one = index < 0;
  switch (field.cpp_type()) {
    case pb::FieldDescriptor::CPPTYPE_MESSAGE: {
      const pb::Message& inner =
          one ? access->GetMessage(message, &field) : access->GetRepeatedMessage(message, &field, index);
      if (const Special* scalar = special(inner.GetDescriptor())) return scalar->encode(inner);
      Json json = Json::object();
      fill(inner, json);
      return json;
    }
    case pb::FieldDescriptor::CPPTYPE_STRING: {
      std::string text = one ? access->GetString(message, &field) : access->GetRepeatedString(message, &field, index);
      return field.type() == pb::FieldDescriptor::TYPE_BYTES ? base64_encode(text) : text;
    }
    case pb::FieldDescriptor::CPPTYPE_BOOL:
      return one ? access->GetBool(message, &field) : access->GetRepeatedBool(message, &field, index);
    case pb::FieldDescriptor::CPPTYPE_INT32:
      return one ? access->GetInt32(message, &field) : access->GetRepeatedInt32(message, &field, index);
    case pb::FieldDescriptor::CPPTYPE_INT64:
      return one ? access->GetInt64(message, &field) : access->GetRepeatedInt64(message, &field, index);
    default:
      return nullptr;
  }
}

}  // namespace

FieldErrors read_message(const Node& node, pb::Message& into, const std::string& path) {
  Reader reader;
  reader.message(node, node.line, into, path, true);
  return reader.take();
}

Json to_json(const pb::Message& message) {
  Json json = Json::object();
  fill(message, json);
  return json;
}

Json to_json(const pb::Message& message, std::string_view api_version, std::string_view kind) {
  Json json = Json::object();
  json["apiVersion"] = api_version;
  json["kind"] = kind;
  fill(message, json);
  return json;
}

}  // namespace fairlead::kube
