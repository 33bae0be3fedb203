// SPDX-License-Identifier: Apache-2.0
// What this release does with each field of a Pod and of a Service: acts on it, leaves it be (harmless: it asks for
// nothing that would be missed on this node) or refuses the object. One table (table.cc) says so for every field of the
// schema; a test shows that none is missing.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/kube/codec/field_error.h"

namespace k8s {
class Pod;
class Service;
}  // namespace k8s

namespace fairlead::kube {

struct FieldReport {
  FieldErrors refused;                // the object must not run; the reason names the field
  std::vector<std::string> reported;  // paths that are set to more than the default and have no effect
};

// Looks at metadata and spec as set, unknown wire fields included; status is the server's. Pure.
FieldReport check_pod_fields(const k8s::Pod& pod);
FieldReport check_service_fields(const k8s::Service& service);

}  // namespace fairlead::kube
