// SPDX-License-Identifier: Apache-2.0
// Any bytes as a manifest file: read, defaulted, validated, projected. What is accepted must be accepted again, as the
// same object, from the JSON that the agent keeps of it.
#include <algorithm>

#include "agent/kube/manifests/object.h"
#include "test/fuzz/fuzzer.h"

namespace {

using namespace fairlead;

// Where two texts part, with what stands around it.
std::string difference(const std::string& before, const std::string& after) {
  constexpr std::size_t kAround = 60;
  const auto at = static_cast<std::size_t>(std::ranges::mismatch(before, after).in1 - before.begin());
  const std::size_t from = at - std::min(at, kAround);
  return before.substr(from, 2 * kAround) + " became " + after.substr(from, 2 * kAround);
}

void check(const kube::ManifestReader& reader, const kube::ManifestObject& object) {
  const auto kept = kube::yaml::parse_one(object.source);
  if (!kept) fuzz::require(false, "the kept copy is one document: " + kept.error().str() + ": " + object.source);
  kube::ManifestContent again;
  reader.read_object(*kept, {}, "fuzz.yaml", again);
  for (const auto& refusal : again.refusals) {
    fuzz::require(false, "the kept copy is accepted: " + refusal.errors.front().str() + ": " + object.source);
  }
  fuzz::require(again.objects.size() == 1, "the kept copy is one object");
  const kube::ManifestObject& other = again.objects.front();
  if (other.source != object.source) {
    fuzz::require(false, "the kept copy's copy is the same: " + difference(object.source, other.source));
  }
  fuzz::require(other.place.key() == object.place.key() && other.row_key == object.row_key,
                "the kept copy is the same object: " + object.place.key() + " " + object.row_key + " became " +
                    other.place.key() + " " + other.row_key);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const kube::ManifestReader reader{"node"};
  const auto content = reader.read({reinterpret_cast<const char*>(data), size}, "fuzz.yaml");
  for (const auto& refusal : content.refusals) {
    fuzz::require(!refusal.errors.empty() && !refusal.errors.front().reason.empty(), "a refusal says why");
  }
  for (const auto& object : content.objects) check(reader, object);
  return 0;
}
