// SPDX-License-Identifier: Apache-2.0
// Any bytes as a kubeconfig: refused with the file's name, or a server to talk to.
#include "agent/kube/api/kubeconfig.h"
#include "test/fuzz/fuzzer.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fairlead;
  const auto access = kube::parse_kubeconfig({reinterpret_cast<const char*>(data), size}, "/etc/fuzz.conf");
  if (access) {
    fuzz::require(access->server.starts_with("http"), "a server: " + access->server);
  } else {
    fuzz::require(access.error().what.starts_with("/etc/fuzz.conf:"), "the file's name: " + access.error().what);
  }
  return 0;
}
