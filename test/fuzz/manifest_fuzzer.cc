// SPDX-License-Identifier: Apache-2.0
// Any bytes as a manifest file: read, defaulted, validated, projected. What is accepted must be accepted again, as the
// same object, from the JSON that the agent keeps of it.
#include "agent/kube/manifests/object.h"
#include "test/fuzz/fuzzer.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fairlead;
  const kube::ManifestReader reader{"node"};
  const auto content = reader.read({reinterpret_cast<const char*>(data), size}, "fuzz.yaml");
  for (const auto& refusal : content.refusals) {
    fuzz::require(!refusal.errors.empty() && !refusal.errors.front().reason.empty(), "a refusal says why");
  }
  for (const auto& object : content.objects) {
    const auto kept = kube::yaml::parse_one(object.source);
    fuzz::require(kept.has_value(), "the kept copy is one document: " + object.source);
    kube::ManifestContent again;
    reader.read_object(*kept, {}, "fuzz.yaml", again);
    fuzz::require(again.refusals.empty(), "the kept copy is refused: " + object.source + ": " +
                                              (again.refusals.empty() ? "" : again.refusals[0].errors[0].str()));
    fuzz::require(again.objects.size() == 1 && again.objects[0].row_key == object.row_key &&
                      again.objects[0].place.key() == object.place.key() && again.objects[0].source == object.source,
                  "the kept copy is another object: " + object.source);
  }
  return 0;
}
