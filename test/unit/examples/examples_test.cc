// SPDX-License-Identifier: Apache-2.0
// Every manifest under examples/demo is accepted as it is, and nothing in it is without effect.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "agent/kube/manifests/object.h"

namespace fairlead::kube {
namespace {

TEST(Examples, EveryManifestIsAcceptedAndActedOn) {
  unsigned pods = 0, services = 0, policies = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(FAIRLEAD_EXAMPLES)) {
    if (entry.path().parent_path().filename() == "cluster") continue;  // for a control plane
    if (entry.path().extension() != ".yaml") continue;
    std::ifstream file(entry.path());
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const auto content = ManifestReader{.node_name = "demo"}.read(text, entry.path());
    EXPECT_FALSE(content.objects.empty()) << entry.path();
    for (const auto& refusal : content.refusals) {
      for (const auto& error : refusal.errors)
        ADD_FAILURE() << entry.path() << ": " << error.field << ": " << error.reason;
    }
    for (const auto& object : content.objects) {
      for (const auto& field : object.reported) ADD_FAILURE() << entry.path() << ": " << field << " has no effect";
      pods += object.kind == ManifestKind::kPod;
      services += object.kind == ManifestKind::kService;
      policies += object.kind == ManifestKind::kNetworkPolicy;
    }
  }
  EXPECT_GE(pods, 4U);
  EXPECT_GE(services, 2U);
  EXPECT_GE(policies, 1U);
}

}  // namespace
}  // namespace fairlead::kube
