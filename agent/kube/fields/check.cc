// SPDX-License-Identifier: Apache-2.0
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/unknown_field_set.h>
#include <k8s/options.pb.h>
#include <k8s/pod.pb.h>
#include <k8s/service.pb.h>

#include <optional>

#include "agent/base/result.h"
#include "agent/kube/codec/text.h"
#include "agent/kube/fields/fields.h"
#include "agent/kube/fields/table.h"

namespace fairlead::kube {
namespace {

namespace pb = google::protobuf;

// Whether `value` is one of "a|b|c*".
bool listed(std::string_view values, std::string_view value) {
  while (!values.empty()) {
    const std::string_view one = values.substr(0, values.find('|'));
    values.remove_prefix(std::min(values.size(), one.size() + 1));
    if (one.ends_with('*') ? value.starts_with(one.substr(0, one.size() - 1)) : one == value) return true;
  }
  return false;
}

// What a field holds, for comparison and for people: a scalar's text; nothing for lists, maps and messages.
std::optional<std::string> scalar_text(const pb::Message& message, const pb::FieldDescriptor& field) {
  const pb::Reflection* access = message.GetReflection();
  if (field.is_repeated()) return {};
  switch (field.cpp_type()) {
    case pb::FieldDescriptor::CPPTYPE_STRING:
      return access->GetString(message, &field);
    case pb::FieldDescriptor::CPPTYPE_BOOL:
      return access->GetBool(message, &field) ? "true" : "false";
    case pb::FieldDescriptor::CPPTYPE_INT32:
      return std::to_string(access->GetInt32(message, &field));
    case pb::FieldDescriptor::CPPTYPE_INT64:
      return std::to_string(access->GetInt64(message, &field));
    default:
      return {};
  }
}

// Message types that are one value in text: nothing inside them is a field of its own.
bool is_value(const pb::Descriptor& type) {
  return type.file()->name() == "k8s/scalars.proto" || type.name() == "ObjectMeta";
}

class Walk {
 public:
  explicit Walk(FieldReport& report) : report_(report) {}

  // Looks at every set field of an acted-on message.
  void visit(const pb::Message& message, const std::string& path) {
    std::vector<const pb::FieldDescriptor*> fields;
    message.GetReflection()->ListFields(message, &fields);
    for (const pb::FieldDescriptor* field : fields) {
      if (field->options().GetExtension(k8s::inline_)) {
        visit(message.GetReflection()->GetMessage(message, field), path);
      } else {
        judge(message, *field, path.empty() ? field->name() : path + "." + field->name());
      }
    }
  }

  // Unknown wire fields, at any depth.
  void unknown(const pb::Message& message, const std::string& path, std::vector<std::string>& found) const {
    const pb::Reflection* access = message.GetReflection();
    const pb::UnknownFieldSet& set = access->GetUnknownFields(message);
    for (int i = 0; i < set.field_count(); ++i) found.push_back(fmt::format("{}: #{}", path, set.field(i).number()));
    std::vector<const pb::FieldDescriptor*> fields;
    access->ListFields(message, &fields);
    for (const pb::FieldDescriptor* field : fields) {
      if (field->cpp_type() != pb::FieldDescriptor::CPPTYPE_MESSAGE) continue;
      const bool is_inline = field->options().GetExtension(k8s::inline_);
      const std::string name = is_inline ? path : path + "." + field->name();
      if (!field->is_repeated()) {
        unknown(access->GetMessage(message, field), name, found);
        continue;
      }
      for (int i = 0; i < access->FieldSize(message, field); ++i) {
        unknown(access->GetRepeatedMessage(message, field, i), fmt::format("{}[{}]", name, i), found);
      }
    }
  }

 private:
  void judge(const pb::Message& message, const pb::FieldDescriptor& field, const std::string& path) {
    const FieldEntry* entry = find_field(field.containing_type()->name() + "." + field.name());
    const FieldClass what = entry == nullptr ? FieldClass::kRefused : entry->what;
    const std::string_view values = entry == nullptr ? std::string_view{} : entry->values;
    const auto text = scalar_text(message, field);
    if (text && (text->empty() || listed(values, *text))) return;
    const pb::Reflection* access = message.GetReflection();
    const bool inner = field.cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE;
    if (inner && !field.is_repeated() && what != FieldClass::kActs) {
      std::vector<const pb::FieldDescriptor*> set;
      const pb::Message& value = access->GetMessage(message, &field);
      value.GetReflection()->ListFields(value, &set);
      if (set.empty()) return;  // `lifecycle: {}` asks for nothing
    }
    switch (what) {
      case FieldClass::kRefused:
        report_.refused.push_back(
            {path, text ? "\"" + *text + "\" is not supported by this release" : "not supported by this release"});
        return;
      case FieldClass::kHarmless:
        report_.reported.push_back(path);
        return;
      case FieldClass::kActs:
        break;
    }
    if (text && !values.empty()) {
      report_.refused.push_back({path, "\"" + *text + "\" is not supported by this release"});
    }
    if (field.is_map()) {
      for (int i = 0; !values.empty() && i < access->FieldSize(message, &field); ++i) {
        const pb::Message& pair = access->GetRepeatedMessage(message, &field, i);
        const std::string key = pair.GetReflection()->GetString(pair, field.message_type()->map_key());
        if (!listed(values, key)) report_.refused.push_back({path + "[" + key + "]", "not supported by this release"});
      }
      return;
    }
    if (!inner || is_value(*field.message_type())) return;
    if (!field.is_repeated()) return visit(access->GetMessage(message, &field), path);
    for (int i = 0; i < access->FieldSize(message, &field); ++i) {
      visit(access->GetRepeatedMessage(message, &field, i), fmt::format("{}[{}]", path, i));
    }
  }

  FieldReport& report_;
};

}  // namespace

FieldReport check_pod_fields(const k8s::Pod& pod) {
  FieldReport report;
  Walk walk(report);
  const k8s::PodSpec& spec = pod.spec();
  walk.visit(spec, "spec");
  for (int i = 0; i < spec.containers_size(); ++i) {
    if (spec.containers(i).restartpolicy().empty()) continue;
    report.refused.push_back({fmt::format("spec.containers[{}].restartPolicy", i), "not supported by this release"});
  }
  std::vector<std::string> unknown;
  walk.unknown(spec, "spec", unknown);
  for (const std::string& field : unknown) {
    const std::size_t mark = field.rfind(": #");
    report.refused.push_back({field.substr(0, mark), "field number " + field.substr(mark + 3) + " is not known"});
  }
  return report;
}

FieldReport check_service_fields(const k8s::Service& service) {
  FieldReport report;
  Walk walk(report);
  walk.visit(service.spec(), "spec");
  walk.unknown(service.spec(), "spec", report.reported);
  return report;
}

}  // namespace fairlead::kube
