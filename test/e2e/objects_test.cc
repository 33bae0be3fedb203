// SPDX-License-Identifier: Apache-2.0
// Our words for objects against a real API server's: field round trips as protobuf and as JSON, and what defaults and
// validation of manifests say of a corpus against what the server says of it (dryRun=All).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <k8s/config.pb.h>
#include <k8s/endpointslice.pb.h>
#include <k8s/event.pb.h>
#include <k8s/lease.pb.h>
#include <k8s/namespace.pb.h>
#include <k8s/networkpolicy.pb.h>
#include <k8s/node.pb.h>
#include <k8s/pod.pb.h>
#include <k8s/service.pb.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>

#include "agent/kube/api/wire.h"
#include "agent/kube/codec/text.h"
#include "agent/kube/defaults/defaults.h"
#include "agent/kube/validate/validate.h"
#include "test/kit/control_plane.h"
#include "test/kit/netns.h"
#include "test/kit/own_node.h"

namespace fairlead::kube {
namespace {

namespace fs = std::filesystem;
using testkit::ControlPlane;

struct Document {
  std::string kind;
  std::string name;
  std::string text;
};

// Documents of a corpus file, each as it stands there.
std::vector<Document> read_corpus(const std::string& file) {
  std::ifstream in(std::string(FAIRLEAD_CORPUS "/") + file);
  std::vector<Document> documents(1);
  for (std::string line; std::getline(in, line);) {
    if (line == "---") {
      documents.emplace_back();
    } else {
      documents.back().text += line + "\n";
    }
  }
  for (Document& document : documents) {
    const auto parsed = yaml::parse(document.text);
    EXPECT_TRUE(parsed && parsed->size() == 1) << document.text;
    document.kind = parsed->front().root.text_of("kind");
    document.name = parsed->front().root.get("metadata")->text_of("name");
  }
  return documents;
}

std::string path_of(const std::string& kind) {
  const std::map<std::string, std::string> paths{
      {"Pod", "/api/v1/namespaces/default/pods"},
      {"Service", "/api/v1/namespaces/default/services"},
      {"ConfigMap", "/api/v1/namespaces/default/configmaps"},
      {"Secret", "/api/v1/namespaces/default/secrets"},
      {"Event", "/api/v1/namespaces/default/events"},
      {"Namespace", "/api/v1/namespaces"},
      {"Node", "/api/v1/nodes"},
      {"EndpointSlice", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"},
      {"NetworkPolicy", "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies"},
      {"Lease", "/apis/coordination.k8s.io/v1/namespaces/default/leases"}};
  return paths.at(kind);
}

// What we make of an object's text: read, defaulted, judged.
struct Ours {
  FieldErrors errors;
  Json object;
};

template <class Message>
Ours judge(const std::string& text, void (*apply_defaults)(Message&), FieldErrors (*validate)(const Message&)) {
  Message message;
  Ours ours;
  ours.errors = read_message(yaml::parse(text)->front().root, message);
  if (!ours.errors.empty()) return ours;
  default_manifest_meta(*message.mutable_metadata());
  if (apply_defaults != nullptr) apply_defaults(message);
  ours.errors = validate(message);
  ours.object = to_json(message);
  return ours;
}

Ours judge(const Document& document) {
  const std::map<std::string, std::function<Ours()>> kinds{
      {"Pod", [&] { return judge<k8s::Pod>(document.text, default_pod, validate_pod); }},
      {"Service", [&] { return judge<k8s::Service>(document.text, default_service, validate_service); }},
      {"EndpointSlice",
       [&] { return judge<k8s::EndpointSlice>(document.text, default_endpoint_slice, validate_endpoint_slice); }},
      {"ConfigMap", [&] { return judge<k8s::ConfigMap>(document.text, nullptr, validate_config_map); }},
      {"Secret", [&] { return judge<k8s::Secret>(document.text, default_secret, validate_secret); }},
      {"Namespace", [&] { return judge<k8s::Namespace>(document.text, nullptr, validate_namespace); }},
      {"NetworkPolicy",
       [&] { return judge<k8s::NetworkPolicy>(document.text, default_network_policy, validate_network_policy); }}};
  return kinds.at(document.kind)();
}

// Less what says nothing: Go's wire form writes zero values that its JSON leaves out.
Json pruned(const Json& value) {
  if (value.is_array()) {
    Json all = Json::array();
    for (const Json& item : value) all.push_back(pruned(item));
    return all;
  }
  if (!value.is_object()) return value;
  Json all = Json::object();
  for (const auto& [name, item] : value.items()) {
    Json fresh = pruned(item);
    const bool zero = fresh.is_null() || fresh == "" || fresh == 0 || fresh == false || fresh == Json::object() ||
                      fresh == Json::array();
    if (!zero) all[name] = std::move(fresh);
  }
  return all;
}

// Two paths name the same field: less indices and keys, which not every rule of the server tells, one leads to the
// other.
bool same_place(const std::string& a, const std::string& b) {
  const auto plain = [](const std::string& path) {
    std::string out;
    int depth = 0;
    for (const char letter : path) {
      depth += letter == '[' ? 1 : 0;
      if (depth == 0) out += static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
      depth -= letter == ']' ? 1 : 0;
    }
    return out;
  };
  return plain(a).starts_with(plain(b)) || plain(b).starts_with(plain(a));
}

// Where two objects differ.
std::string differences(const Json& ours, const Json& theirs) {
  std::string all;
  const Json diff = Json::diff(ours, theirs);
  for (const Json& each : diff) all += "\n    " + each.dump();
  return all;
}

std::string words(const FieldErrors& errors) {
  std::string all;
  for (const FieldError& error : errors) all += fmt::format("\n    {}: {}", error.field, error.reason);
  return all;
}

class Objects : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = fs::path(testkit::folder()) / "plane";
    auto plane = ControlPlane::start({.folder = folder_,
                                      .binary = FAIRLEAD_GO_BIN "/k8s",
                                      .service_cidr = "10.96.0.0/16,fd00:10:96::/112",
                                      .address = testkit::kNodeV4,
                                      // What these add to a Pod is no default of the API's.
                                      .without = {"ServiceAccount", "DefaultTolerationSeconds", "Priority"}});
    ASSERT_TRUE(plane) << plane.error().message();
    plane_.emplace(std::move(*plane));
  }
  static void TearDownTestSuite() {
    plane_.reset();
    fs::remove_all(folder_);
  }
  void SetUp() override { ASSERT_TRUE(plane_); }

  static ControlPlane::Answer post(const Document& document, const std::string& query) {
    return plane_->send("POST", path_of(document.kind) + query, {"Content-Type: application/yaml"}, document.text);
  }

  // Less what only a server gives, and what it gives to each object anew.
  static void drop_what_servers_give(const Document& document, Json& object) {
    object.erase("apiVersion");
    object.erase("kind");
    object.erase("status");
    if (object.contains("ports") && object["ports"].is_null()) object.erase("ports");  // none, as Go writes it
    for (const char* field : {"uid", "creationTimestamp", "managedFields", "resourceVersion", "generation"}) {
      object["metadata"].erase(field);
    }
    if (document.kind == "Pod") object["spec"].erase("serviceAccount");  // the older name of serviceAccountName
    if (document.kind == "Namespace") {
      object.erase("spec");
      object["metadata"].erase("namespace");
      object["metadata"]["labels"].erase("kubernetes.io/metadata.name");
    }
    if (document.kind != "Service") return;
    Json& spec = object["spec"];
    if (document.text.find("clusterIP") == std::string::npos) {
      spec.erase("clusterIP");
      spec.erase("clusterIPs");
    }
    for (const char* field : {"ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"}) spec.erase(field);
    for (Json& port : spec["ports"]) {
      if (document.text.find("nodePort") == std::string::npos) port.erase("nodePort");
    }
    if (spec["ports"].empty()) spec.erase("ports");
  }

  // The object as the server has it, from its protobuf and from its JSON: all must come to the same.
  template <class Message>
  static void expect_round_trip(const std::string& path) {
    SCOPED_TRACE(path);
    const auto wire = plane_->send("GET", path, {"Accept: application/vnd.kubernetes.protobuf"});
    const auto text = plane_->send("GET", path);
    ASSERT_EQ(wire.status, 200) << wire.body;
    ASSERT_EQ(text.status, 200) << text.body;
    const auto bytes = unwrap_object(wire.body);
    ASSERT_TRUE(bytes);
    Message from_wire;
    ASSERT_TRUE(from_wire.ParseFromString(*bytes));
    EXPECT_EQ(from_wire.SerializeAsString().size(), bytes->size());  // no byte lost, unknown fields included
    Message again;
    ASSERT_TRUE(again.ParseFromString(from_wire.SerializeAsString()));
    Json theirs = Json::parse(text.body);
    theirs.erase("apiVersion");
    theirs.erase("kind");
    EXPECT_EQ(differences(pruned(Json(to_json(from_wire))), pruned(theirs)), "");
    EXPECT_EQ(differences(Json(to_json(again)), Json(to_json(from_wire))), "");

    Message from_text;
    const auto errors = read_message(yaml::parse(text.body)->front().root, from_text);
    EXPECT_EQ(words(errors), "");
    EXPECT_EQ(differences(pruned(Json(to_json(from_text))), pruned(theirs)), "");
  }

  static inline fs::path folder_;
  static inline std::optional<ControlPlane> plane_;
};

// Status is a subresource where there is one.
TEST_F(Objects, ComeBackWholeOverWireAndText) {
  for (const Document& document : read_corpus("objects.yaml")) {
    SCOPED_TRACE(document.kind);
    const auto made = post(document, "");
    ASSERT_EQ(made.status, 201) << made.body;
  }
  for (const Document& document : read_corpus("statuses.yaml")) {
    const auto told = plane_->send(
        "PATCH", fmt::format("{}/{}/status?fieldManager=test&force=true", path_of(document.kind), document.name),
        {"Content-Type: application/apply-patch+yaml"}, document.text);
    ASSERT_LT(told.status, 300) << told.body;
  }
  expect_round_trip<k8s::Pod>(path_of("Pod") + "/everything");
  expect_round_trip<k8s::Service>(path_of("Service") + "/everything");
  expect_round_trip<k8s::EndpointSlice>(path_of("EndpointSlice") + "/everything");
  expect_round_trip<k8s::ConfigMap>(path_of("ConfigMap") + "/everything");
  expect_round_trip<k8s::Secret>(path_of("Secret") + "/everything");
  expect_round_trip<k8s::Event>(path_of("Event") + "/everything");
  expect_round_trip<k8s::Namespace>(path_of("Namespace") + "/everything");
  expect_round_trip<k8s::Node>(path_of("Node") + "/everything");
  expect_round_trip<k8s::NetworkPolicy>(path_of("NetworkPolicy") + "/everything");
  expect_round_trip<k8s::Lease>(path_of("Lease") + "/everything");
}

// What a later API server sends and we do not know is kept.
TEST_F(Objects, UnknownFieldsSurvive) {
  const auto wire = plane_->send("GET", "/api/v1/namespaces/default", {"Accept: application/vnd.kubernetes.protobuf"});
  std::string bytes = unwrap_object(wire.body).value();
  bytes += "\xfa\x3e\x03new";  // field 1007, length-delimited
  k8s::Namespace message;
  ASSERT_TRUE(message.ParseFromString(bytes));
  EXPECT_THAT(message.SerializeAsString(), testing::HasSubstr("\xfa\x3e\x03new"));
}

TEST_F(Objects, WhatTheServerTakesIsTakenAndDefaultedAlike) {
  for (const char* file : {"good_pods.yaml", "good_objects.yaml"}) {
    for (const Document& document : read_corpus(file)) {
      SCOPED_TRACE(document.kind + " " + document.name);
      const auto answer = post(document, "?dryRun=All&fieldValidation=Strict");
      EXPECT_EQ(answer.status, 201) << answer.body;
      if (answer.status != 201) continue;
      Ours ours = judge(document);
      EXPECT_EQ(words(ours.errors), "");
      Json theirs = Json::parse(answer.body);
      drop_what_servers_give(document, theirs);
      drop_what_servers_give(document, ours.object);
      EXPECT_EQ(differences(ours.object, theirs), "");
    }
  }
}

// Refused alike, and for the same field.
TEST_F(Objects, WhatTheServerRefusesIsRefused) {
  for (const char* file : {"bad_pods.yaml", "bad_objects.yaml"}) {
    for (const Document& document : read_corpus(file)) {
      SCOPED_TRACE(document.kind + " " + document.name);
      const auto answer = post(document, "?dryRun=All&fieldValidation=Strict");
      EXPECT_GE(answer.status, 400) << answer.body;
      const Ours ours = judge(document);
      const Json status = Json::parse(answer.body);
      EXPECT_FALSE(ours.errors.empty()) << status["message"];
      if (answer.status != 422 || ours.errors.empty()) continue;
      std::set<std::string> fields;
      for (const Json& cause : status["details"].value("causes", Json::array()))
        fields.insert(cause.value("field", ""));
      EXPECT_TRUE(
          std::ranges::any_of(fields, [&](const auto& field) { return same_place(field, ours.errors.front().field); }))
          << words(ours.errors) << "\n"
          << status["message"];
    }
  }
}

}  // namespace
}  // namespace fairlead::kube
